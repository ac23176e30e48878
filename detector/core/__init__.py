"""Values in, value out: from rows of samples to anomalies.

In the order in which a row passes: `table` (bytes to columns), `vantage` (whose rows count), `rates` (counters to rates),
`features` (what the model looks at), `ring` and `scale` (each site's recent past, and its own normal), `scoring` and
`threshold` (how unlike, and how much is too much), `anomaly` (a span's runtime), `why` (the features that weigh most).
`intake` and `stream` tie them together for many sites at once; `reservoir` keeps windows to learn from.
"""
