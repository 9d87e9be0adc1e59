"""Trains a scikit-learn classifier on training/digits.npz, and writes what it has to predict.

    python train.py mnist-sklearn    deployment-sklearn/model, a logistic regression
    python train.py mnist-forest     deployment-forest/model, a random forest

`expected/predictions-DEPLOYMENT.csv` holds what the classifier says of data/, picture by picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

EXAMPLE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(EXAMPLE))

from expected_predictions import pictures_to_score, write_expected  # noqa: E402

CLASSIFIERS = {
    "mnist-sklearn": ("deployment-sklearn", LogisticRegression(max_iter=200)),
    "mnist-forest": ("deployment-forest", RandomForestClassifier(40, random_state=20)),
}


def main() -> None:
    deployment = sys.argv[1]
    folder, classifier = CLASSIFIERS[deployment]
    digits = np.load(EXAMPLE / "training" / "digits.npz")
    pictures = digits["pictures"].reshape(len(digits["pictures"]), -1) / 255
    classifier.fit(pictures, digits["labels"])
    model = EXAMPLE / folder / "model"
    model.mkdir(exist_ok=True)
    joblib.dump(classifier, model / "classifier.joblib")
    write_expected(
        deployment,
        {
            name: classifier.predict_proba(picture.reshape(1, -1) / 255)[0]
            for name, picture in pictures_to_score()
        },
    )


if __name__ == "__main__":
    main()
