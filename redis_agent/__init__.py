"""redis-agent: the spine that every service stands on.

The map, in the order to read it:

- `model`      the words: sites, observations, anomalies, failovers, alerts. Frozen values, standard library only.
- `topics`     the data flow as a table: every topic, its key, who writes it, who reads it, how long it is kept.
- `wire`       model <-> protobuf, one pair of functions a type. Protobuf stops here and at the gRPC edge.
- `samples`    the Arrow schema of a batch of samples: names, units, version.
- `fleet`      the configuration: one schema, read once at the start. `fleet_file` reads it with what stands beside it:
               every fault named with its key, its line and what would be right.
- `instants`, `clock`  durations by the monotonic clock, as plain values and as the clock itself; the wall clock for people.
- `log/`       how records travel: one small Protocol, SQLite for one machine, Kafka for many.
- `rpc/`       a gRPC server and client as all services use them: health, reflection, keys, TLS.
- `telemetry`  log lines, traces that cross the topics, and the registry behind `/metrics`.
- `findings`   what is to be told and is neither anomaly nor failover: opened, renewed, closed. `deadletters`: of records that
               can't be read.
- `control`    what holds for the whole fleet, as the control topic says it. `pause`: the same switch in a local file.
- `retries`, `worker_thread`  waiting and trying again (tenacity); blocking clients on threads of their own.
- `process`    how a service lives: start, ready, SIGTERM, exit 0 within five seconds.
- `cli/`       `redis-agent`, the operator's client.
- `v1/`        generated from `proto/redis_agent/v1`; never edited.

Services (`collector`, `detector`, `controller`, `notifier`, `gateway`) import the spine and never each other.
"""
