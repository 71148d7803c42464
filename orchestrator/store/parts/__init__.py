"""The repository by what it is about; :mod:`orchestrator.store.repository` puts it together."""
