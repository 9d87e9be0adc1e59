"""The MLmodel file of a model in MLflow format, read without importing mlflow."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple, cast

from batchpoint_worker.failures import plain_error
from batchpoint_worker.scorer import TaskFailed

FILE_NAME = "MLmodel"

# The numpy type that MLflow's scoring server gives to `read_csv` for each type of a signature.
NUMPY_NAMES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "object",
    "binary": "object",
    "datetime": "object",  # read_csv refuses datetime64; see csv_dates.py
}

# Types whose values, once read as the numpy type above, pass MLflow's enforcement unchanged.
PLAIN_TYPES = frozenset(("boolean", "integer", "long", "float", "double", "string"))

# Set by the user, these change how mlflow loads or checks: then mlflow itself does both.
_VARIABLES = ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "MLFLOW_DISABLE_SCHEMA_DETAILS")
_METADATA = ("mlflow.model.isExternal", "dependencies_schemas")
_SKLEARN_METHODS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")


class InputColumn(NamedTuple):
    """One input of a signature. `type` is MLflow's name, "" when it is no plain scalar."""

    name: str
    type: str
    required: bool


class Tensor(NamedTuple):
    """One tensor of a signature: numpy's name of its type, and its shape with -1 for any length.

    `name` is "" for one that has none.
    """

    name: str
    dtype: str
    shape: Tuple[int, ...]


class Inputs(NamedTuple):
    """The inputs of a signature, of one kind: named columns, types of unnamed ones, or tensors.

    `columns` is None when there is no signature or one that names no columns. All three are empty
    only where there is no signature at all.
    """

    columns: Optional[Sequence[InputColumn]] = None
    unnamed: Tuple[str, ...] = ()
    tensors: Tuple[Tensor, ...] = ()


class ModelFile(NamedTuple):
    """What an MLmodel file says about scoring.

    `heavy_because` tells why only mlflow itself can load and check this model ("": common flavour,
    plain signature).
    """

    folder: str
    loader: str
    predict_fn: str
    code_path: str
    data_path: str
    flavors: Dict[str, Dict[str, Any]]
    inputs: Inputs
    heavy_because: str

    @property
    def columns(self) -> Optional[Sequence[InputColumn]]:
        """The signature's named columns in order; None when it names none."""
        return self.inputs.columns

    @property
    def tensor(self) -> Optional[Tensor]:
        """The lone tensor that the signature asks for; None when it asks for something else."""
        return self.inputs.tensors[0] if len(self.inputs.tensors) == 1 else None


def read(folder: str) -> ModelFile:
    """Read `folder`/MLmodel.

    Raises:
        TaskFailed: it is missing, is not an MLmodel file, or has no python_function flavour.
    """
    path = os.path.join(folder, FILE_NAME)
    content = _content(path)
    flavors = _mapping(content.get("flavors"))
    pyfunc = _mapping(flavors.get("python_function"))
    if not pyfunc.get("loader_module"):
        raise TaskFailed(
            plain_error(
                "mlmodel_invalid",
                "%s has no python_function flavour, so it cannot be scored without code; save the "
                "model with one, or deploy it with a scoring script" % path,
            )
        )
    inputs, because = _inputs(_mapping(content.get("signature")), path)
    data = pyfunc.get("data")
    code = pyfunc.get("code")
    return ModelFile(
        folder=folder,
        loader=str(pyfunc["loader_module"]),
        predict_fn=str(pyfunc.get("predict_fn") or "predict"),
        code_path=os.path.join(folder, code) if code else "",
        data_path=os.path.join(folder, data) if data else folder,
        flavors=flavors,
        inputs=inputs,
        heavy_because=because or _heavy_because(content, pyfunc, flavors),
    )


def _mapping(value: Any) -> Dict[str, Any]:
    return cast("Dict[str, Any]", value) if isinstance(value, dict) else {}


def _content(path: str) -> Dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise TaskFailed(
            plain_error(
                "mlmodel_unreadable",
                "this Python environment has no PyYAML, which reading %s needs; add mlflow to the "
                "model's requirements" % path,
                "environment",
            )
        ) from None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with open(path, "rb") as file:
            content: Any = yaml.load(file, Loader=loader)  # noqa: S506 - both loaders are safe ones
    except FileNotFoundError:
        raise TaskFailed(
            plain_error(
                "mlmodel_missing",
                "%s does not exist; the model folder must be one that MLflow's save_model wrote"
                % path,
            )
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as problem:
        raise TaskFailed(
            plain_error("mlmodel_invalid", "%s cannot be read: %s" % (path, problem))
        ) from None
    if not isinstance(content, dict):
        raise TaskFailed(plain_error("mlmodel_invalid", "%s is not an MLmodel file" % path))
    return _mapping(content)


def _inputs(signature: Dict[str, Any], path: str) -> Tuple[Inputs, str]:
    """Return the signature's inputs, and why they are not plain ("" when they are)."""
    text = signature.get("inputs")
    heavy = "its signature has parameters" if signature.get("params") else ""
    if not text:
        return Inputs(), heavy
    try:
        specs: Any = json.loads(text) if isinstance(text, str) else text
        names = [spec.get("name") for spec in specs]
        kinds = [str(spec["type"]) for spec in specs]
        tensors = tuple([_tensor(spec) for spec in specs]) if "tensor" in kinds else ()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise TaskFailed(
            plain_error("mlmodel_invalid", "%s: the signature's inputs cannot be read" % path)
        ) from None
    if tensors:
        return Inputs(tensors=tensors), "its signature has tensors"
    if not all(names):
        return Inputs(unnamed=tuple(kinds)), "its signature does not name the columns"
    columns = [
        InputColumn(
            str(spec["name"]),
            kind if kind in NUMPY_NAMES else "",
            bool(spec.get("required", not spec.get("optional", False))),
        )
        for spec, kind in zip(specs, kinds)
    ]
    odd = [c.name for c in columns if c.type not in PLAIN_TYPES]
    if odd and not heavy:
        heavy = "its signature's column %r is of a type that mlflow converts" % odd[0]
    return Inputs(columns), heavy


def _tensor(spec: Dict[str, Any]) -> Tensor:
    inner = spec["tensor-spec"]
    shape = tuple([int(length) for length in inner["shape"]])
    return Tensor(str(spec.get("name") or ""), str(inner["dtype"]), shape)


def _heavy_because(
    content: Dict[str, Any], pyfunc: Dict[str, Any], flavors: Dict[str, Dict[str, Any]]
) -> str:
    """Return why mlflow itself must load the model; "" for what is loaded here the same way."""
    loader, predict_fn = pyfunc["loader_module"], pyfunc.get("predict_fn") or "predict"
    metadata: Any = content.get("metadata") or {}
    set_variables = [name for name in _VARIABLES if name in os.environ]
    reasons = (
        (set_variables, "%s is set" % ", ".join(set_variables)),
        (pyfunc.get("config"), "it has a model configuration"),
        (any(key in metadata for key in _METADATA), "its metadata asks for more"),
        (
            content.get("is_signature_from_type_hint") or content.get("type_hint_from_example"),
            "its signature comes from type hints",
        ),
    )
    for applies, reason in reasons:
        if applies:
            return reason
    if loader == "mlflow.sklearn" and isinstance(flavors.get("sklearn"), dict):
        form = flavors["sklearn"].get("serialization_format", "pickle")
        known = form in ("pickle", "cloudpickle", "skops") and predict_fn in _SKLEARN_METHODS
        return "" if known else "its way of being saved or called is not a common one"
    if loader == "mlflow.xgboost" and isinstance(flavors.get("xgboost"), dict):
        known = predict_fn == "predict" and bool(flavors["xgboost"].get("data"))
        return "" if known else "its way of being saved or called is not a common one"
    return "%s is loaded by mlflow" % loader
