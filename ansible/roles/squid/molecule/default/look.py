#!/usr/bin/python3
"""What a client of a squid sees; every check has a name and says what it expected.

look.py serves ORIGIN NAME          the cache of this host, all in turn; NAME is the host's own
look.py fetch PROXY URL             one request: prints status, hit or miss, and the size
look.py refused PROXY URL...        every URL is answered with 403
look.py fill ORIGIN                 fetch what siblings are to share
look.py sibling ORIGIN              what the other sibling has, this one takes from it
look.py stored ORIGIN NAME          what `serves` fetched still is a hit
"""

import json
import re
import sys
import threading
import time
import urllib.error
import urllib.request

LOCAL = "127.0.0.1:3128"
LOG = "/var/log/vacuo/squid/access.log"
PATIENCE_SECONDS = 60


def fetch(proxy, url):
    """(status, hit, body)"""
    proxies = {"http": f"http://{proxy}"} if proxy else {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    try:
        with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
            told = answer.headers.get("Cache-Status", "").replace(" ", "")
            return answer.status, ";hit" in told, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, False, error.read()


def at_once(count, url):
    together, found = threading.Barrier(count), []

    def one():
        together.wait()
        found.append(fetch(LOCAL, url))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def reached(origin):
    return json.loads(fetch("", f"{origin}/counts")[2])


def expect(what, found, wanted):
    print(f"{'ok' if found == wanted else 'NOT OK'}: {what}: {found}", flush=True)
    if found != wanted:
        sys.exit(f"{what}: {wanted} was expected, {found} was found")


def eventually(what, look):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if look():
            return print(f"ok: {what}", flush=True)
        time.sleep(0.2)
    sys.exit(f"{what}: not within {PATIENCE_SECONDS} s")


def serves(origin, name):
    answers = at_once(12, f"{origin}/slow/{name}")
    expect("12 requests at the same time are answered", [a[0] for a in answers], [200] * 12)
    expect("all with the same", len({a[2] for a in answers}), 1)
    expect("by one fetch from the origin", reached(origin)[f"/slow/{name}"], 1)

    for path in (f"/data/{name}", f"/plain/{name}"):
        expect(f"{path} is fetched", fetch(LOCAL, origin + path)[:2], (200, False))
        expect(f"{path} is a hit", fetch(LOCAL, origin + path)[:2], (200, True))
        expect(f"{path} was fetched once", reached(origin)[path], 1)

    query = f"/Frontier?p1={name}"
    expect("a query is fetched", fetch(LOCAL, origin + query)[0], 200)
    expect("another query is another object", fetch(LOCAL, f"{origin}{query}x")[:2], (200, False))
    eventually(
        "a stale answer is asked for by its date",
        lambda: fetch(LOCAL, origin + query)[0] == 200 and f"304 {query}" in reached(origin),
    )
    # Another worker may have asked before the first had it stored; from now on there is no excuse.
    before = reached(origin)
    eventually(
        "and once more when it is stale again",
        lambda: (
            fetch(LOCAL, origin + query)[0] == 200
            and reached(origin)[f"304 {query}"] > before[f"304 {query}"]
        ),
    )
    expect("and is not sent again", reached(origin)[query], before[query])

    missing = f"/missing/{name}"
    expect("what is not there is not there", fetch(LOCAL, origin + missing)[0], 404)
    expect("nor a moment later", fetch(LOCAL, origin + missing)[0], 404)
    expect("without asking the origin again", reached(origin)[missing], 1)

    counters = fetch("", f"http://{LOCAL}/squid-internal-mgr/counters")
    expect("this host reads the counters", b"client_http.hits" in counters[2], True)


def refused(proxy, *urls):
    for url in urls:
        expect(f"{url} through {proxy}", fetch(proxy, url)[0], 403)


def shared(origin):
    return [f"{origin}/data/shared-{number}" for number in range(40)]


def fill(origin):
    for url in shared(origin):
        expect(f"{url} is fetched", fetch(LOCAL, url)[0], 200)


def sibling(origin):
    """A squid that was alone when it started takes a moment to find its siblings alive."""
    for url in shared(origin):
        expect(f"{url} is had", fetch(LOCAL, url)[0], 200)
        with open(LOG) as log:
            if any("SIBLING_HIT" in line for line in log if url + " " in line):
                path = url.removeprefix(origin)
                return expect("one fetch reached the origin", reached(origin)[path], 1)
        time.sleep(0.5)
    sys.exit("none of 40 objects came from the sibling")


def entries():
    """How many objects the disk's directory knows; it is read again after a start."""
    told = fetch("", f"http://{LOCAL}/squid-internal-mgr/storedir")[2].decode()
    found = re.findall(r"Current entries:\s+(\d+)", told.partition("rock")[2])
    return int(found[0]) if found else 0


def stored(origin, name):
    looks = []

    def read():
        looks.append(entries())
        return looks[-1] >= 4 and len(set(looks[-5:])) == 1 and len(looks) >= 5

    eventually("the directory of the disk has been read", read)
    expect(
        "what was fetched is still there", fetch(LOCAL, f"{origin}/data/{name}")[:2], (200, True)
    )
    expect("and was fetched once", reached(origin)[f"/data/{name}"], 1)


def main(action, *arguments):
    if action == "fetch":
        status, hit, body = fetch(*arguments)
        print(status, "hit" if hit else "miss", len(body))
    else:
        actions = (serves, refused, fill, sibling, stored)
        {one.__name__: one for one in actions}[action](*arguments)


main(*sys.argv[1:])
