"""A world to practise on: what redis-agent watches and moves, small enough for one machine, breakable on command.

Real things where they can be had, faithful fakes where not:

    redis_server     a real redis-server child process, that can be killed or frozen
    proxy            a TCP link that can be cut, black-holed, refused or slowed
    zone             one hosted zone: atomic changes, and what is accepted against what has propagated
    route53          Route 53's REST API over zones, for a plain boto3 client
    dns_server       an authoritative DNS server that answers with what has propagated
    receivers        Slack, PagerDuty and a mail server that remember what they were told

Everything runs on one event loop, on loopback addresses that the caller chooses, and is started and stopped with
`await x.start()` and `await x.stop()`; stopping twice is harmless. A port given as 0 is chosen by the system and told
by `x.port`. Nothing here is for production: no part checks who is calling.
"""
