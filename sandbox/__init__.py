"""A local MEGA API for tests, the demo, benchmarks and manual trials.

A `Sandbox` serves made-up leads over real HTTP while its `with` statement runs.
`config()` is a configuration of the tap for it:

>>> import requests
>>> def get(sandbox, **parameters):
...     headers = {
...         "Authorization": f"Bearer {sandbox.token}",
...         "x-customer-id": sandbox.customer_id,
...     }
...     url = f"{sandbox.url}/api/agents/crm/leads"
...     return requests.get(url, parameters, headers=headers, timeout=5)
>>> with Sandbox(leads=250) as sandbox:
...     page = get(sandbox, limit=100).json()
>>> len(page["leads"]), page["total"]
(100, 250)
>>> sorted(sandbox.config())
['api_url', 'auth_token', 'customer_id']

`leads` reads and changes the leads: `all()`, `count()`, `add(n, **fields)`,
`change(n)`, `update(id, **fields)`, `merge(n)` and `delete(n)`. `requests` is the list
of the requests so far:

>>> with Sandbox(leads=0) as sandbox:
...     ids = sandbox.leads.add(3, status="won")
...     total = get(sandbox, status="won").json()["total"]
>>> total, sandbox.requests[0].query, sandbox.requests[0].status
(3, {'status': 'won'}, 200)

`script()` replaces the faults. A `Fault` happens to a request by its number, which
counts from the call of `script()`. `python -m sandbox --help` describes all kinds of
faults and their options:

>>> with Sandbox(leads=60) as sandbox:
...     sandbox.script(
...         Fault("error", at=2, status=429, retry_after=7),
...         Fault("empty_page", at=3),
...         Fault(at=4, before=lambda: sandbox.leads.delete(50)),
...     )
...     responses = [get(sandbox) for _ in range(4)]
>>> [response.status_code for response in responses]
[200, 429, 200, 200]
>>> [len(response.json().get("leads", [])) for response in responses]
[20, 0, 0, 10]

Each customer has its own key, leads and rate limits. `customers` lists them. The
attributes `leads`, `token` and `customer_id` belong to the first one:

>>> with Sandbox(customers=2, leads=[5, 3]) as sandbox:
...     sandbox.script(Fault("error", customer=1, times=None))
...     counts = [customer.leads.count() for customer in sandbox.customers]
...     status = get(sandbox).status_code
>>> counts, status
([5, 3], 200)

`limits`, `delay` and `clock_offset` can change while the sandbox runs:

>>> with Sandbox(leads=1, limits=NO_LIMITS) as sandbox:
...     sandbox.limits = Limits(per_minute=1)
...     statuses = [get(sandbox).status_code for _ in range(2)]
>>> statuses
[200, 429]
"""

from sandbox.faults import Fault
from sandbox.rate_limits import NO_LIMITS, Limits
from sandbox.request_log import Received
from sandbox.server import Sandbox

__all__ = ["NO_LIMITS", "Fault", "Limits", "Received", "Sandbox"]
