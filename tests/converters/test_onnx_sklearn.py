"""scikit-learn models written by skl2onnx: converted, run on the engine, held against onnxruntime."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import deploykit as dk
from deploykit.errors import UnsupportedError
from deploykit.graph.dkfile import to_bytes
from deploykit.runners import OnnxRuntimeRunner
from tests.support.peers import need, need_onnxruntime

need_onnxruntime()
need("sklearn")
skl2onnx = need("skl2onnx")


def models() -> dict[str, tuple[Any, str]]:
    """name -> (estimator, data set)."""
    from sklearn import (
        cluster,
        decomposition,
        ensemble,
        impute,
        linear_model,
        naive_bayes,
        neighbors,
        neural_network,
        svm,
        tree,
    )
    from sklearn import preprocessing as pre
    from sklearn.pipeline import make_pipeline as line

    few: dict[str, Any] = dict(n_estimators=8, random_state=0)
    logistic = linear_model.LogisticRegression
    return {
        "random forest": (ensemble.RandomForestClassifier(**few), "iris"),
        "random forest of two": (ensemble.RandomForestClassifier(**few), "cancer"),
        "boosting": (ensemble.GradientBoostingClassifier(**few), "iris"),
        "boosting of two": (ensemble.GradientBoostingClassifier(**few), "cancer"),
        "tree": (tree.DecisionTreeClassifier(random_state=0), "iris"),
        "extra trees": (ensemble.ExtraTreesClassifier(**few), "iris"),
        "adaboost": (ensemble.AdaBoostClassifier(**few), "iris"),
        "bagging": (ensemble.BaggingClassifier(n_estimators=3, random_state=0), "iris"),
        "forest regression": (ensemble.RandomForestRegressor(**few), "diabetes"),
        "boosted regression": (ensemble.GradientBoostingRegressor(**few), "diabetes"),
        "logistic of two": (logistic(), "cancer"),
        "logistic": (logistic(), "iris"),
        "linear machine": (svm.LinearSVC(), "iris"),
        "ridge classifier": (linear_model.RidgeClassifier(), "iris"),
        "support vectors": (svm.SVC(), "cancer"),
        "support vectors of three": (svm.SVC(), "iris"),
        "support vector regression": (svm.SVR(), "diabetes"),
        "polynomial kernel": (svm.NuSVR(kernel="poly"), "diabetes"),
        "linear regression": (linear_model.LinearRegression(), "diabetes"),
        "perceptron": (neural_network.MLPClassifier((8,), max_iter=20, random_state=0), "iris"),
        "naive bayes": (naive_bayes.GaussianNB(), "iris"),
        "neighbours": (neighbors.KNeighborsClassifier(), "iris"),
        "k-means": (cluster.KMeans(3, n_init=2, random_state=0), "iris"),
        "components": (decomposition.PCA(2), "iris"),
        "scalers": (line(pre.StandardScaler(), pre.MinMaxScaler(), logistic()), "iris"),
        "imputer": (line(impute.SimpleImputer(), pre.RobustScaler(), logistic()), "holes"),
        "normaliser": (line(pre.Normalizer(), pre.MaxAbsScaler(), pre.PowerTransformer(), logistic()), "iris"),
        "polynomial features": (line(pre.PolynomialFeatures(2), linear_model.Ridge()), "diabetes"),
        "bins": (pre.KBinsDiscretizer(4, encode="onehot-dense"), "iris"),
        "one-hot": (pre.OneHotEncoder(sparse_output=False, handle_unknown="ignore"), "categories"),
    }


def data(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    if name == "categories":
        return np.random.default_rng(0).integers(0, 4, (60, 3)), np.zeros(60)
    load = {"cancer": datasets.load_breast_cancer, "diabetes": datasets.load_diabetes}.get(name, datasets.load_iris)
    x, y = load(return_X_y=True)
    x = x.astype(np.float32)
    if name == "holes":
        x[::7, 1] = np.nan
    return x, y


@pytest.mark.parametrize("name", list(models()))
def test_agrees_with_onnxruntime(name: str) -> None:
    model, source = models()[name]
    x, y = data(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
        zip_map = {"zipmap": False} if hasattr(model, "predict_proba") or name.startswith("support vectors") else None
        proto = skl2onnx.to_onnx(model, x[:1], options={id(model): zip_map} if zip_map else None)
    if name == "categories":
        x[0] = 9  # unknown ones give zeros
    want = OnnxRuntimeRunner(proto.SerializeToString(), 1, optimize=False).run({"X": x})
    got = dk.Interpreter(to_bytes(dk.convert(proto, verify=False).graph)).run({"X": x})
    for k, w in want.items():
        assert got[k].dtype == w.dtype and got[k].shape == w.shape, k
        if w.dtype.kind == "i":
            assert np.array_equal(got[k], w), k
        else:
            assert np.abs(got[k] - w).max() <= 1e-4 * np.abs(w).max(), k


def test_maps_say_what_to_do() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = data("iris")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = LogisticRegression().fit(x, y)
    with pytest.raises(UnsupportedError, match="list of maps"):
        dk.convert(skl2onnx.to_onnx(maps, x[:1]))
