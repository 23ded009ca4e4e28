"""Decision boundaries side by side: nearest neighbours, maximum likelihood, SVM, network.

Four classifiers of points in the plane. k nearest neighbours (scikit-learn's, left out where it is
not installed) stores the training set. The maximum-likelihood classifier fits one Gaussian to each
class, the mean and covariance of its points, and takes the class of the larger density. The support
vector machine is a line; the network bends.

Shows: maximum-likelihood classifier, kNN and decision boundaries as pictures (row B8).

    python examples/decision_boundaries.py --plot boundaries.png     # --quick: fewer steps
"""

import numpy as np
from common import Parts, mlp, moons, options, picture, raw_digits, split, standardised

import symgrad as sg

n = sg.dim("points", max=40000)
x = sg.input("x", (n, 2))
y = sg.input("y", (n,), dtype="int32")


def digits_in_the_plane() -> tuple[np.ndarray, np.ndarray]:
    """Threes and eights by two features: ink in the left half, and in the middle rows."""
    pixels, labels = raw_digits()
    chosen = (labels == 3) | (labels == 8)
    images = pixels[chosen].reshape(-1, 8, 8)
    left, middle = images[:, :, :3].sum(axis=(1, 2)), images[:, 3:5, 2:6].sum(axis=(1, 2))
    return np.stack([left, middle], axis=1), (labels[chosen] == 8).astype(np.int32)


def neighbours(train: dict, steps: int):
    """The majority of the 15 nearest points of the training set."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(15).fit(train["x"], train["y"]).predict


def likelihood(train: dict, steps: int):
    """argmax over classes of log p(x | class) + log p(class), with Gaussian densities."""
    scores = []
    for label in range(2):
        points = train["x"][train["y"] == label]
        precision = np.linalg.inv(np.cov(points.T))
        d = x - points.mean(axis=0).astype("float32")
        constant = 0.5 * np.linalg.slogdet(precision)[1] + np.log(len(points) / len(train["x"]))
        density = sg.einsum("ni,ij,nj->n", d, sg.constant(precision.astype("float32")), d)
        scores.append(constant.item() - 0.5 * density)
    return sg.function([x], sg.argmax(sg.stack(scores, axis=1), axis=1))


def svm(train: dict, steps: int):
    """A line: hinge loss and weight decay."""
    model = sg.nn.Linear(2, 1, name="line")
    score = model(x)[:, 0]
    loss = sg.losses.hinge_loss(score, 2 * y - 1) + sg.regularizers.l2(model, 1e-3)
    return trained(loss, score > 0, train, steps)


def network(train: dict, steps: int):
    """Two hidden layers of 16 and cross-entropy."""
    model = mlp(2, 16, 16, 2)
    logits = model(x)
    loss = sg.losses.cross_entropy(logits, y) + sg.regularizers.l2(model, 1e-3)
    return trained(loss, sg.argmax(logits, axis=1), train, steps)


def trained(loss: sg.Expr, answer: sg.Expr, train: dict, steps: int):
    step = sg.train_step(loss, sg.optim.Adam(0.01), seed=0)
    for _ in range(steps):
        step(train["x"], train["y"])
    return sg.function([x], answer, state=step.state)


def draw(axes, classify, points: dict, title: str) -> None:
    """The plane coloured by class, and the test points."""
    low, high = points["x"].min(axis=0) - 0.5, points["x"].max(axis=0) + 0.5
    u, v = np.meshgrid(np.linspace(low[0], high[0], 200), np.linspace(low[1], high[1], 200))
    plane = np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float32)
    axes.contourf(u, v, np.asarray(classify(plane), float).reshape(u.shape), 1, alpha=0.3)
    axes.scatter(*points["x"].T, c=points["y"], s=8)
    axes.set_title(title)


def compare(name: str, parts: Parts, steps: int, axes) -> float:
    """Test accuracies; a row of pictures."""
    for i, classifier in enumerate((neighbours, likelihood, svm, network)):
        try:
            classify = classifier(parts["train"], steps)
        except ImportError:
            print(f"{name:14s} {classifier.__name__:11s} needs scikit-learn: left out")
            continue
        test = parts["test"]
        accuracy = float(np.mean(np.asarray(classify(test["x"])) == test["y"]))
        print(f"{name:14s} {classifier.__name__:11s} test accuracy {accuracy:.4f}")
        if axes is not None:
            draw(axes[i], classify, test, f"{name}: {classifier.__name__} {accuracy:.3f}")
    return accuracy


def main() -> None:
    given = options(__doc__)
    steps = 200 if given.quick else 2000
    sets = {"moons": moons(1000), "digits 3 and 8": digits_in_the_plane()}
    with picture(given.plot, columns=4, rows=2) as axes:
        for row, (name, points) in enumerate(sets.items()):
            parts = standardised(split(*points))
            compare(name, parts, steps, None if axes is None else axes[row])


if __name__ == "__main__":
    main()
