"""collector: what each site's state looks like from here.

Reads:   Redis, by PING and INFO over one persistent connection a site.
Decides: UP, DOWN or CANNOT_TELL of each site, with the reason; nothing about what to do.
Writes:  metrics (Arrow batches), observations.
"""
