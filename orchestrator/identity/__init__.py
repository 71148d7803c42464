"""Who is asking, and may they: bearer tokens, access policy, the development issuer, logins.

``claims`` turns verified claims into a caller, purely; ``keys`` fetches and keeps the keys of
issuers; ``tokens`` is the validator made of both; ``policy`` says who may do what; ``issuer`` is
the built-in development issuer; ``credentials`` is how the command line finds a token.
"""
