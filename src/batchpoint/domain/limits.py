"""A limit on everything, units last in the name."""

NAME_LENGTH_MIN = 3
NAME_LENGTH_MAX = 32
ASSET_NAME_LENGTH_MAX = 255
DESCRIPTION_LENGTH_MAX = 5_000

YAML_BYTES_MAX = 1_000_000
YAML_NODES_MAX = 20_000
YAML_DEPTH_MAX = 50

MINI_BATCH_ITEMS_MAX = 1_000_000
INSTANCES_MAX = 10_000
WORKERS_PER_INSTANCE_MAX = 256
RETRIES_MAX = 100
ERROR_THRESHOLD_MAX = 2**31 - 1
TIMEOUT_SECONDS_MAX = 7 * 24 * 3600

# Adaptive timeout: nothing is known before the first mini-batches have been scored.
TIMEOUT_FLOOR_SECONDS = 60
TIMEOUT_UNKNOWN_SECONDS = 3600
TIMEOUT_FACTOR = 10
TIMEOUT_SAMPLES_MIN = 5
INIT_TIMEOUT_SECONDS = 3600

# A mini-batch lost with its node or by a kill from outside this often in a row is poison for nodes.
INFRASTRUCTURE_LOSSES_IN_A_ROW_MAX = 10
# So many whole mini-batches failing in the same way before anything succeeded end the job.
SYSTEMIC_FAILURES_MIN = 3
# The same for single items or rows of fewer mini-batches.
SYSTEMIC_VERDICTS_MAX = 100
# The pieces of such a mini-batch are given up sooner: each loss may cost a node.
POISON_LOSSES_IN_A_ROW_MAX = 3
# Lost so often in a row, a task is handed out alone, so that the guilty one among many is found.
SOLITARY_LOSSES_MIN = 5
# A node that holds work and says nothing for the timeout, the time to load a model, and this long.
NODE_SILENCE_SECONDS_MAX = 120

SEGMENT_SLICES_MAX = 4_096
PART_BYTES_MAX = 32 * 1024 * 1024
PART_AGE_SECONDS_MAX = 1.0
CHECKPOINT_SECONDS = 1.0
LEASE_SECONDS = 15.0

# Work handed to a node ahead of time, so that its slots never wait for the runner.
PREFETCH_SECONDS = 2.0
PREFETCH_PER_SLOT_MIN = 2
PREFETCH_PER_SLOT_MAX = 512

# No-code tabular models: how many input bytes go into one `predict` call.
COALESCE_BYTES_MIN = 256 * 1024
COALESCE_BYTES_MAX = 8 * 1024 * 1024
SPLIT_BYTES_MIN = 8 * 1024 * 1024
LISTING_LOOKAHEAD_ITEMS = 20_000
INPUT_URIS_MAX = 10_000
PATTERN_CHARS_MAX = 1_024
PATTERN_ACROSS_MAX = 4
# Looking at the files of a list of URLs: so many at a time.
LOOKS_AT_ONCE_MAX = 16
# How long an invoke waits for a store that does not answer; and a job, before it says so.
INPUT_LOOK_SECONDS_MAX = 5.0
INPUT_ANSWER_SECONDS_MAX = 20.0

# Inputs from object stores that lie on a node's disk, being fetched or waiting for a worker. One
# task with more than that may pass alone.
STAGED_BYTES_MAX = 4 * 1024 * 1024 * 1024
STAGING_FREE_BYTES_MIN = 512 * 1024 * 1024
FETCHES_AT_ONCE_MAX = 24
# An object that cannot be read for so long while others can, or whatever it is, is given back.
FETCH_STUCK_SECONDS_MAX = 60.0
FETCH_OUTAGE_SECONDS_MAX = 600.0
PARQUET_FOOTER_BYTES_MAX = 256 * 1024 * 1024
PARAMETERS_MAX = 100

# Pipelines: steps of one graph, of all graphs in it together, and how deep they may be nested.
STEPS_MAX = 1_000
STEPS_IN_ALL_MAX = 5_000
PIPELINE_DEPTH_MAX = 10
# Names of steps, of inputs and of outputs: parts of the names of jobs, folders and variables.
FIELD_NAME_LENGTH_MAX = 100
# A step lost with its node so often in a row is poison for nodes.
STEP_LOSSES_IN_A_ROW_MAX = 10
# The value of a literal input: it becomes an environment variable of a command.
LITERAL_BYTES_MAX = 65_536
# The text of a command: Linux hands a shell no argument above 128 KiB, and references add to it.
COMMAND_BYTES_MAX = 65_536

# Object stores: whatever happens there, one call ends within twice this time.
STORAGE_TIMEOUT_SECONDS = 120.0
# Somebody waits for the test of a datastore, whose address may just be misspelled.
STORAGE_TEST_SECONDS_MAX = 10.0
STORAGE_RETRIES_MAX = 8
STORAGE_BACKOFF_SECONDS_MAX = 5.0
STORAGE_LIST_PAGE = 1_000
# Bigger objects are fetched by several ranges at a time and written in parts.
STORAGE_BIG_BYTES_MIN = 32 * 1024 * 1024
STORAGE_RANGE_BYTES = 16 * 1024 * 1024
STORAGE_RANGES_AT_ONCE = 4
STORAGE_PART_BYTES_MIN = 8 * 1024 * 1024
STORAGE_PARTS_MAX = 9_000
STORAGE_PARTS_AT_ONCE = 4
STORAGE_CHUNK_BYTES = 1024 * 1024
# A server that lists in no order: how many keys are looked at before that is believed of it, and
# how many are sorted in memory at a time.
LISTING_TRUSTED_AFTER_KEYS = 20_000
LISTING_SORTED_KEYS_MAX = 100_000

ERROR_TEXT_CHARS_MAX = 4_000
TRACEBACK_CHARS_MAX = 16_000
LOG_BYTES_PER_FILE_MAX = 64 * 1024 * 1024
PROTOCOL_HEADER_BYTES_MAX = 64 * 1024 * 1024
UPLOAD_FILES_MAX = 100_000
# Deeper than any document of ours; what is stored is read back by code that recurses.
JSON_DEPTH_MAX = 50
# The largest document is the list of an upload's files.
REQUEST_BYTES_MAX = 64 * 1024 * 1024
TREE_PATH_BYTES_MAX = 2_048
FILE_NAME_BYTES_MAX = 255
IDEMPOTENCY_KEY_LENGTH_MAX = 255
LONG_POLL_SECONDS_MAX = 60
HEAD_ROWS_MAX = 1_000
LIST_PAGE_MAX = 1_000
PARTS_KEPT_DAYS = 7
CANCEL_GRACE_SECONDS = 2.0
