"""Named limits: every loop, queue, retry and text field has one."""

from __future__ import annotations

PRIORITY_MIN = 0
PRIORITY_MAX = 100
AMOUNT_MAX = 2**40  # per node and dimension: a petabyte in MiB, a billion cores in thousandths
NODES_MAX = 1_000_000
DEVICES_PER_NODE_MAX = 64
MEMBERS_MAX = 100_000  # gang size
NAME_CHARS_MAX = 200
COMMAND_BYTES_MAX = 131_072  # one argument list, as execve counts it
ENV_BYTES_MAX = 262_144
LIMIT_MS_MAX = 10 * 366 * 24 * 3_600_000  # ten years
GRACE_MS_DEFAULT = 30_000
GRACE_MS_MAX = 24 * 3_600_000
RETRIES_MAX = 100
RESTARTS_MAX = 1_000  # attempts of one job for whatever cause; then it fails and says so
QUEUE_PENDING_MAX = 1_000_000
SUBMIT_BATCH_MAX = 100_000  # jobs in one call
OUTPUT_BYTES_DEFAULT = 256 * 2**20  # output kept per member
EXIT_REQUEUE = 75  # EX_TEMPFAIL: "checkpointed, run me again"
RESERVATIONS_MAX = 1_000  # at the same time
RESERVATION_MS_MAX = 366 * 24 * 3_600_000  # one that ends; a year
RESERVATION_AHEAD_MS_MAX = LIMIT_MS_MAX  # from now to its start
RESERVATION_TENANTS_MAX = 100
DEADLINE_JOBS_MAX = 200  # in one question about deadlines: a flow of jobs x intervals decides it
DEADLINE_SLOTS_MAX = 200
HALF_LIFE_MS_DEFAULT = 7 * 24 * 3_600_000
MAX_AGE_MS_DEFAULT = 7 * 24 * 3_600_000
QUEUES_MAX = 10_000
QUEUE_DEPTH_MAX = 10
WEIGHT_MAX = 1_000_000
STEPS_MAX = 2**53 - 1  # that a job makes: what every reader of JSON can tell from its neighbours
