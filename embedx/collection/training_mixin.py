"""The methods of a Collection that train, evaluate and use heads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedx.collection.base import CollectionBase
from embedx.datasets.sources import read_corpus
from embedx.errors import UsageError

if TYPE_CHECKING:
    from embedx.evaluation.layer_sweep import ViewScores
    from embedx.evaluation.probe import Report
    from embedx.heads.head import Head
    from embedx.training.active_learning import Suggestions
    from embedx.training.fit_head import Trained
    from embedx.training.predict import Predictions


class TrainingMixin(CollectionBase):
    """Train, evaluate and use heads. A base class of `embedx.collection.collection.Collection`."""

    def probe(
        self,
        label: str | Sequence[str] = "label",
        *,
        kind: str = "logistic",
        view: str | Sequence[str] | None = None,
        where: str | None = None,
        folds: str | None = None,
        split: str | None = None,
        group: str | None = None,
        leaky: bool = False,
        separator: str | None = None,
        weak_negatives: float = 0.0,
        class_weight: Any = None,
        head_model: str = "",
        seed: int = 0,
        **settings: Any,
    ) -> "Report":
        """Measure how well a head on the vectors tells the labels apart, on rows that it has not learned from.

        Args:
            label, kind, view, where, folds, split, group, leaky, separator, weak_negatives, class_weight, head_model,
                seed, settings: as in `fit_head`; nothing is calibrated or saved.

        Raises:
            UsageError: as `fit_head`; also where there is too little to be split.
        """
        from embedx.evaluation.cross_validation import choose_views
        from embedx.evaluation.probe import probe

        views = choose_views(self.store.views, view, self.store.recipe.default_view, several=kind == "weighted-layers")
        return probe(
            self.store,
            views,
            label,
            kind=kind,
            ids=self._select_ids(where),
            folds=folds,
            split=split,
            group=group,
            leaky=leaky,
            separator=separator,
            weak_negatives=weak_negatives,
            class_weight=class_weight,
            head_model=head_model,
            seed=seed,
            **settings,
        )

    def sweep(
        self,
        label: str = "label",
        *,
        view: str | Sequence[str] = "*",
        Cs: Sequence[float] | None = None,
        where: str | None = None,
        folds: str | None = None,
        split: str | None = None,
        group: str | None = None,
        leaky: bool = False,
        seed: int = 0,
        device: str = "auto",
    ) -> "ViewScores":
        """Probe many views at once by logistic regressions, to see which layer and pooling tell the labels apart.

        All views, training parts and Cs are solved together, several times faster than one after the other; C is chosen
        inside the training rows.

        Args:
            label, where, folds, split, group, leaky, seed: as in `fit_head`.
            view: names or patterns such as "L*.mean"; all views if not given.
            Cs: inverse strengths of the penalty to choose from; ten from 0.0001 to 100 if not given.
            device: "auto", "cpu" or "cuda".

        Raises:
            UsageError: as `probe`.
        """
        from embedx.evaluation.cross_validation import match_views
        from embedx.evaluation.layer_sweep import sweep_views
        from embedx.heads.logistic import GRID

        return sweep_views(
            self.store,
            match_views(self.store.views, view),
            label,
            Cs=GRID if Cs is None else Cs,
            ids=self._select_ids(where),
            folds=folds,
            split=split,
            group=group,
            leaky=leaky,
            seed=seed,
            device=device,
        )

    def fit_head(
        self,
        label: str | Sequence[str] = "label",
        *,
        kind: str = "logistic",
        view: str | Sequence[str] | None = None,
        name: str | None = None,
        where: str | None = None,
        folds: str | None = None,
        split: str | None = None,
        group: str | None = None,
        leaky: bool = False,
        separator: str | None = None,
        weak_negatives: float = 0.0,
        class_weight: Any = None,
        head_model: str = "",
        calibration: str = "temperature",
        seed: int = 0,
        **settings: Any,
    ) -> "Trained":
        """Fit a classifier on stored vectors, score it on rows it has not learned from, and save it in heads/.

        Args:
            label: the column with a class for each row; several columns of yes and no are several labels.
            kind: "logistic", "mlp", "knn", "prototype" or "weighted-layers".
            view: the vectors; the last layer with the first pooling if not given, and for weighted-layers every layer
                with that pooling (or a list, or a pattern such as "L*.max").
            name: of the head; LABEL-KIND if not given. One of that name is replaced, and `gain` says what the labels
                since then have brought.
            where: an SQL condition on the rows that are used.
            folds, split: the column of the data set's own folds, or of its train, validation and test parts; "fold" or
                "split" where every row has one.
            group: the column whose values are never split; "group" where it is filled. A recording never is.
            leaky: random rows instead: scores are too good, and the report says so.
            separator: between the classes of a row, as in "dog;rain": several labels.
            weak_negatives: the weight, up to 1, of rows without a label as examples of no class.
            class_weight: "balanced", or weights for names of classes.
            head_model: steps before the head, such as "PCA(128)".
            calibration: "temperature", "isotonic" or "none".
            seed: of made folds and of the head.
            settings: of the kind, such as C=0.1, hidden=128, k=7; see `embedx.heads.KINDS`. Without C it is chosen
                inside the training rows.

        Returns:
            The head, with its name, report and gain; `predict_proba(x)` needs numpy alone.

        Raises:
            UsageError: an argument cannot be meant; no such column; what belongs together would be on both sides.
            DiskError: the head cannot be written.
        """
        from embedx.training.fit_head import fit_head

        return fit_head(
            self.store,
            label,
            kind=kind,
            view=view,
            name=name,
            ids=self._select_ids(where),
            folds=folds,
            split=split,
            group=group,
            leaky=leaky,
            separator=separator,
            weak_negatives=weak_negatives,
            class_weight=class_weight,
            head_model=head_model,
            calibration=calibration,
            seed=seed,
            **settings,
        )

    def heads(self) -> "dict[str, Head]":
        """Return name -> saved head, by name.

        Raises:
            StoreError: one is damaged.
        """
        from embedx.training.fit_head import load_heads

        return load_heads(self.folder)

    def head(self, name: str | None = None) -> "Head":
        """Return a saved head; without a name the only one.

        Raises:
            UsageError: there is none of that name, or several and none is named.
            StoreError: it is damaged.
        """
        from embedx.training.fit_head import load_head

        return load_head(self.folder, name)

    def remove_head(self, name: str) -> None:
        """Delete a saved head.

        Raises:
            UsageError: there is none of that name.
        """
        from embedx.training.fit_head import remove_head

        remove_head(self.folder, name)

    def predict(
        self,
        source: Any = None,
        *,
        head: "str | Head | None" = None,
        where: str | None = None,
        per: str = "window",
        aggregate: str = "mean",
        k: int = 1,
        precision: float | None = None,
        recall: float | None = None,
    ) -> "Predictions":
        """Say what rows or recordings are, with calibrated probabilities where the head has a calibration.

        Args:
            source: audio as `extract` takes it (files, folders, a manifest), embedded by this collection's recipe; the
                stored rows if not given.
            head: a head or its name; the only one if not given.
            where: an SQL condition on the stored rows.
            per: "window", or "recording": the windows of a recording (and channel) together.
            aggregate: how they come together: the "mean" of their probabilities, or the "max" of each class.
            k: how many of the likeliest classes are given with their probability.
            precision, recall: name a class only from the threshold on that had this precision (or recall) on rows that
                were held out in training.

        Raises:
            UsageError: an argument cannot be meant; there is no such head; a condition beside a source.
            RecipeMismatch: the head was trained on vectors of another recipe.
            ModelError: audio is given, and the model of the collection is not there any more.
        """
        from embedx.training.predict import predict

        if source is not None and where is not None:
            raise UsageError("where chooses among stored rows; it does not go with audio as the source.")
        found = self.head(head) if head is None or isinstance(head, str) else head
        items = None if source is None else read_corpus(source)
        options: dict[str, Any] = {"per": per, "aggregate": aggregate, "k": k, "precision": precision, "recall": recall}
        return predict(self.store, found, self._load_embedder, items, self._select_ids(where), **options)

    def suggest(
        self,
        *,
        head: "str | Head | None" = None,
        by: str = "margin",
        n: int = 20,
        label: str | None = None,
        where: str | None = None,
        of_class: str | None = None,
        score_band: tuple[float, float] | None = None,
        stratify: str | None = None,
        view: str | None = None,
        seed: int = 0,
    ) -> "Suggestions":
        """Choose rows without a label whose labels would teach most; see `embedx.training.active_learning.suggest`.

        Args:
            head: a head or its name; the only one if there is one. "diverse" and "random" need none.
            label: the column that is empty; that which the head learned, or "label".
            where: an SQL condition on the rows to choose from.
            view: for "diverse": the vectors that are compared; the head's, or the default view.
            by, n, of_class, score_band, stratify, seed: see `embedx.training.active_learning.suggest`.

        Raises:
            UsageError: an argument cannot be meant; there is no such head.
            NothingToDo: every row has a label.
        """
        from embedx.training.active_learning import WITHOUT_HEAD, suggest

        given = by in WITHOUT_HEAD and head is None and len(self.heads()) != 1
        found = None if given else self.head(head) if head is None or isinstance(head, str) else head
        return suggest(
            self.store,
            found,
            view or (found.views if found else self.store.recipe.default_view),
            by=by,
            n=n,
            label=label,
            ids=self._select_ids(where),
            of_class=of_class,
            score_band=score_band,
            stratify=stratify,
            seed=seed,
        )
