"""A model in MLflow format, loaded without mlflow where that is known to be the same.

Importing mlflow takes seconds that many jobs do not have. What scikit-learn and XGBoost need of it
is little: read a file, call one method. Everything else, and every input whose types are not those
of the signature already, goes through `mlflow.pyfunc.load_model`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pickle
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional

from batchpoint_worker import mlmodel, tensor_rows
from batchpoint_worker.failures import plain_error
from batchpoint_worker.mlmodel import ModelFile
from batchpoint_worker.scorer import TaskFailed

Predict = Callable[[Any], Any]

_PACKAGES = ("mlflow", "pandas", "numpy", "scikit-learn", "xgboost", "xgboost-cpu", "pyarrow")


class LoadedModel:
    """A model ready to predict.

    `loader` names how it was loaded: "sklearn", "xgboost", or "pyfunc" (by mlflow); `heavy_because`
    says why mlflow was needed, "" if it was not.
    """

    def __init__(self, file: ModelFile, parameters: Optional[Mapping[str, Any]] = None) -> None:
        """Load the model that `file` describes; raises what loading raises.

        `parameters` go with every prediction: only mlflow itself takes them.
        """
        self.file = file
        self._parameters = dict(parameters or {})
        self.heavy_because = file.heavy_because
        if self._parameters and not self.heavy_because:
            self.heavy_because = "it was given parameters"
        self._heavy: Optional[Predict] = None
        self._light: Optional[Predict] = None
        self._tensor = tensor_rows.tensor_of_numbers(file)
        if file.code_path:
            sys.path.insert(0, file.code_path)
        if not self.heavy_because:
            try:
                self._light = _LIGHT[file.loader](file)
            except Exception as problem:  # noqa: BLE001 - mlflow may know better, or says it better
                self.heavy_because = "loading it without mlflow failed: %s: %s" % (
                    type(problem).__name__,
                    problem,
                )
        if self._light is None:
            self._load_heavy()
        self.loader = file.loader.rsplit(".", 1)[-1] if self._light is not None else "pyfunc"

    def _load_heavy(self) -> Predict:
        if self._heavy is None:
            # A worker reports to nobody; and it runs where there may be no network at all.
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            try:
                pyfunc = importlib.import_module("mlflow.pyfunc")
            except ImportError as problem:
                raise TaskFailed(
                    plain_error(
                        "mlflow_missing",
                        "mlflow cannot be imported in this environment (%s), and this model needs "
                        "it because %s; add mlflow to the model's requirements"
                        % (problem, self.heavy_because or "an input needs its conversions"),
                        "environment",
                    )
                ) from problem
            if self.file.code_path in sys.path:
                sys.path.remove(self.file.code_path)  # load_model puts it there itself
            predict = pyfunc.load_model(self.file.folder, suppress_warnings=True).predict
            if self._parameters:
                predict = functools.partial(predict, params=self._parameters)
            self._heavy = predict
        assert self._heavy is not None
        return self._heavy

    def predict(self, frame: Any) -> Any:
        """Return what `mlflow.pyfunc.load_model(folder).predict(frame)` returns.

        Rows for a signature of one tensor are brought to its shape first. Raises whatever the model
        raises, and mlflow's exception when the frame does not fit.
        """
        if self._tensor is not None and hasattr(frame, "to_numpy"):
            frame = tensor_rows.given(frame, self._tensor)
        if self._light is None:
            return self._load_heavy()(frame)
        if self.file.columns is None:
            return self._light(frame)
        fitting = self._fitting(frame)
        if fitting is None:
            return self._load_heavy()(frame)
        return self._light(fitting)

    def _fitting(self, frame: Any) -> Any:
        """Return the frame as mlflow's enforcement leaves it; None when only mlflow knows.

        Sure are: equal types, upcasts within one kind of number, columns in another order, columns
        the signature does not name (left out) and optional columns that are not there (skipped).
        """
        names: List[str] = []
        casts: Dict[str, str] = {}
        assert self.file.columns is not None
        for column in self.file.columns:
            if column.name not in frame.columns:
                if column.required:
                    return None
                continue
            names.append(column.name)
            found, wanted = frame[column.name].dtype, mlmodel.NUMPY_NAMES[column.type]
            if found == wanted or (wanted == "object" and str(found) in ("str", "string")):
                continue
            if not _is_upcast(found, wanted):
                return None
            casts[column.name] = wanted
        if names != list(frame.columns):
            frame = frame[names]
        return frame.astype(casts) if casts else frame

    def packages(self) -> Dict[str, str]:
        """Return the versions of the packages that matter for reproducing predictions."""
        from importlib import metadata

        versions: Dict[str, str] = {}
        for name in _PACKAGES:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return versions


def _is_upcast(found: Any, wanted: str) -> bool:
    """Tell whether mlflow silently widens numbers of numpy type `found` to `wanted`."""
    numpy = importlib.import_module("numpy")
    target = numpy.dtype(wanted)
    return (
        isinstance(found, numpy.dtype)
        and found.kind == target.kind
        and found.kind in "iuf"
        and found.itemsize <= target.itemsize
    )


def _sklearn(file: ModelFile) -> Predict:
    flavor = file.flavors["sklearn"]
    path = file.data_path
    if not os.path.isfile(path):
        path = os.path.join(path, file.flavors["python_function"]["model_path"])
    form = flavor.get("serialization_format", "pickle")
    if form == "skops":
        model = importlib.import_module("skops.io").load(
            path, trusted=flavor.get("skops_trusted_types")
        )
    else:
        reader: Any = importlib.import_module("cloudpickle") if form == "cloudpickle" else pickle
        with open(path, "rb") as opened:
            model = reader.load(opened)
    method: Any = getattr(model, file.predict_fn)
    parameter = inspect.signature(method).parameters.get("params")
    # mlflow passes `params` on to a method that names it, except to plain `predict`.
    if (
        file.predict_fn != "predict"
        and parameter is not None
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ):
        return functools.partial(method, params=None)
    return method


def _xgboost(file: ModelFile) -> Predict:
    flavor = file.flavors["xgboost"]
    xgboost: Any = importlib.import_module("xgboost")
    module, _, name = str(flavor.get("model_class", "xgboost.core.Booster")).rpartition(".")
    model = getattr(importlib.import_module(module), name)()
    model.load_model(os.path.join(file.folder, flavor["data"]))
    if isinstance(model, xgboost.Booster):
        return lambda frame: model.predict(xgboost.DMatrix(frame), validate_features=True)
    if isinstance(model, xgboost.XGBModel):
        return functools.partial(model.predict, validate_features=True)
    return model.predict


_LIGHT: Dict[str, Callable[[ModelFile], Predict]] = {
    "mlflow.sklearn": _sklearn,
    "mlflow.xgboost": _xgboost,
}
