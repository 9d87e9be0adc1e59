"""The REST API: thin routes over the control plane, errors as problem documents."""
