"""Where nodes come from: on this machine, worker groups started by the supervisor."""
