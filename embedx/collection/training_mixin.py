"""The methods of a Collection that train, evaluate and use heads."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Unpack

from embedx.arguments.types import Device
from embedx.collection.base import CollectionBase
from embedx.collection.searching import from_one_state
from embedx.datasets.sources import read_corpus
from embedx.errors import UsageError
from embedx.evaluation.options import ExperimentKwargs
from embedx.evaluation.splits import SplitKwargs
from embedx.metrics.chance import PERMUTATIONS
from embedx.store.filters import TIMEOUT_S
from embedx.training.active_learning import SuggestKwargs
from embedx.training.predict import PredictKwargs

if TYPE_CHECKING:
    from embedx.evaluation.layer_sweep import ViewScores
    from embedx.evaluation.probe import Report
    from embedx.heads.head import Head
    from embedx.training.active_learning import Suggestions
    from embedx.training.fit_head import Trained
    from embedx.training.predict import Predictions
    from embedx.training.zero_shot_probe import ZeroShotReport


class TrainingMixin(CollectionBase):
    """Train, evaluate and use heads. A base class of `embedx.collection.collection.Collection`."""

    @from_one_state
    def probe(
        self,
        label: str | Sequence[str] = "label",
        *,
        view: str | Sequence[str] | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        permutations: int = PERMUTATIONS,
        suspect_labels: bool = False,
        **options: Unpack[ExperimentKwargs],
    ) -> "Report":
        """Measure how well a head on the vectors separates the labels, on rows that it was not trained on.

        Nothing is calibrated or saved.

        Args:
            label: the label column; see `fit_head`.
            view: the view; see `fit_head`.
            where: an SQL condition on the rows that are used; all if None.
            timeout: seconds that the condition can take; default 30.
            permutations: how many permutations of the labels to compare with; default 199. 0: no test against chance.
            suspect_labels: list in `suspects` the rows whose label the held-out head and neighbours contradict.
            options: labels, split and head; see `fit_head`.

        Returns:
            The scores with intervals, baselines and the test against chance; `print(report)` shows them,
            `report.text(per_class=True)` also those of every class.

        Raises:
            UsageError: see `fit_head`; or there are too few groups to split.
        """
        from embedx.evaluation.cross_validation import choose_views
        from embedx.evaluation.options import read_options
        from embedx.evaluation.probe import probe

        labels, split, head = read_options(label, options)
        views = choose_views(self.views, view, self.recipe.default_view, several=head.kind == "weighted-layers")
        ids = self._select_ids(where, timeout)
        return probe(
            self.store, views, labels, split, head, ids=ids, permutations=permutations, suspect_labels=suspect_labels
        )

    @from_one_state
    def probe_zero_shot(
        self,
        zero_shot: Any = None,
        *,
        prompt: str | Sequence[str] | None = None,
        label: str = "label",
        where: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> "ZeroShotReport":
        """Measure how well zero-shot classes agree with the labels. Nothing is trained or saved.

        Args:
            zero_shot: the classes, whose names are labels; see `embedx.predict`. None: the labels themselves, with
                spaces for underscores.
            prompt: the sentence for a model with texts; see `embedx.predict`.
            label: the column with one label per row; default "label". Rows of other labels are left out and counted.
            where: an SQL condition on the rows that are used; all if None.
            timeout: seconds that the condition can take; default 30.

        Returns:
            The figures with intervals and baselines, as those of `probe`.

        Raises:
            UsageError: an invalid argument; no row has a label that is one of the classes.
            ModelError: the model of the collection is missing, or cannot name classes.
        """
        from embedx.training.zero_shot_probe import probe_zero_shot

        ids = self._select_ids(where, timeout)
        return probe_zero_shot(self.store, self._load_embedder(), zero_shot, prompt, label, ids)

    @from_one_state
    def sweep(
        self,
        label: str = "label",
        *,
        view: str | Sequence[str] = "*",
        Cs: Sequence[float] | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        device: Device = "auto",
        **split: Unpack[SplitKwargs],
    ) -> "ViewScores":
        """Probe many views at once by logistic regression, to see which layer and pooling separates the labels best.

        All views, folds and values of C are solved together, several times faster than one by one. C is chosen inside
        the training rows.

        Args:
            label: the label column, with one class per row.
            view: names or patterns such as "L*.mean"; all views by default.
            Cs: inverse penalty strengths to choose from; by default ten from 0.0001 to 100.
            where: an SQL condition on the rows that are used; all if None.
            timeout: seconds that the condition can take; default 30.
            device: "auto", "cpu" or "cuda".
            split: folds, split, group, leaky and seed; see `fit_head`.

        Returns:
            The accuracy and log loss of each view.

        Raises:
            UsageError: see `probe`.
        """
        from embedx.evaluation.cross_validation import match_views
        from embedx.evaluation.layer_sweep import sweep_views
        from embedx.evaluation.splits import SplitOptions
        from embedx.evaluation.targets import LabelOptions
        from embedx.heads.logistic import C_GRID

        return sweep_views(
            self.store,
            match_views(self.views, view),
            LabelOptions(label),
            SplitOptions(**split),
            Cs=C_GRID if Cs is None else Cs,
            ids=self._select_ids(where, timeout),
            device=device,
        )

    @from_one_state
    def fit_head(
        self,
        label: str | Sequence[str] | None = None,
        *,
        view: str | Sequence[str] | None = None,
        name: str | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        calibration: str = "temperature",
        permutations: int = PERMUTATIONS,
        augment: int = 0,
        augment_with: str | None = None,
        **options: Unpack[ExperimentKwargs],
    ) -> "Trained":
        """Fit a classifier on stored vectors, score it on rows that it was not trained on, and save it in heads/.

        Args:
            label: the label column, with one class per row; or several yes/no columns, one per class (multi-label). By
                default the one that the head `name` learned, or "label" for a new head.
            view: the view; default: last layer, first pooling. For weighted-layers several; default: every layer.
            name: the name of the head; by default LABEL-KIND. An old one is replaced; `gain` is that of new labels.
            where: an SQL condition on the rows that are used; all if None.
            timeout: seconds that the condition can take; default 30.
            calibration: "temperature", "isotonic" or "none".
            permutations: how many permutations of the labels to compare with; default 199. 0: no test against chance.
            augment: how many altered copies of each training row to train on too; default 0. The audio is needed.
            augment_with: how copies are altered, such as "noise,pitch", or a TOML file; see docs/heads.md.
            separator: the text between the classes of a row, as in "dog;rain" (multi-label).
            weak_negatives: the weight, 0 to 1, of rows without a label as examples of no class; default 0, not used.
            folds: the column with the data set's own folds; by default "fold" if every row has one.
            split: the column with train, validation and test; by default "split" if it holds these.
            group: the column with groups; all rows of a group are on one side of a split, and so are all rows of a
                recording. By default "group" where it has values.
            leaky: split rows at random, ignoring groups; scores will be inflated, and the report says so.
            seed: the seed for the folds and the head; default 0.
            kind: "logistic" (default), "mlp", "knn", "prototype" or "weighted-layers".
            head_model, class_weight: steps before the head, such as "PCA(128)"; "balanced", or weights by class name.
            options: the keywords from `separator` on, and settings of the kind such as C=0.1, hidden=128, k=7; see
                `embedx.heads.KINDS`. C is chosen inside the training rows unless it is given.

        Returns:
            The head, with its name, report and gain. `predict_proba(x)` needs only numpy.

        Raises:
            UsageError: an invalid argument; the split divides a recording or a group; no audio for copies.
            ModelError, DiskError: the model for copies is missing; the head cannot be written.
        """
        from embedx.evaluation.options import read_options
        from embedx.training.altered_copies import CopyOptions
        from embedx.training.fit_head import choose_label, fit_head

        label, options = choose_label(self.folder, name, label, options)
        labels, split, head = read_options(label, options)
        ids = self._select_ids(where, timeout)
        return fit_head(
            self.store, labels, split, head, self._load_embedder, view=view, name=name, ids=ids,
            calibration=calibration, permutations=permutations,
            copies=CopyOptions.from_keywords(augment, augment_with),
        )  # fmt: skip

    def heads(self) -> "dict[str, Head]":
        """Return name -> saved head, sorted by name.

        Raises:
            StoreError: a head is damaged.
        """
        from embedx.heads.storage import load_heads

        return load_heads(self.folder)

    def head(self, name: str | None = None) -> "Head":
        """Return a saved head.

        Args:
            name: its name; None for the only head.

        Raises:
            UsageError: there is no head of that name; or no name is given and there is not exactly one head.
            StoreError: the head is damaged.
        """
        from embedx.heads.storage import load_head

        return load_head(self.folder, name)

    def remove_head(self, name: str) -> None:
        """Delete a saved head.

        Raises:
            UsageError: there is no head of that name.
        """
        from embedx.heads.storage import remove_head

        remove_head(self.folder, name)

    def predict(
        self,
        source: Any = None,
        *,
        head: "str | Head | None" = None,
        classifier: str | None = None,
        zero_shot: Any = None,
        prompt: str | Sequence[str] | None = None,
        label: str | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        **options: Unpack[PredictKwargs],
    ) -> "Predictions":
        """Predict the classes of rows or recordings by a head, a classifier of audio, or names of classes (zero-shot).

        Probabilities are calibrated if the head is calibrated.

        Args:
            source: audio, as `extract` takes it (files, folders, a manifest); it is embedded by the recipe of this
                collection. None for the stored rows.
            head: a head or its name; None for the only head.
            classifier: instead of a head, a checkpoint for audio classification whose encoder made the stored vectors;
                its scores are computed from them, without the audio.
            zero_shot: instead of a head, names of classes, for YAMNet or a model with texts; see `embedx.predict`.
                If rows are labelled with them, the probabilities are calibrated on these rows where that helps.
            prompt: the sentence for a model with texts; see `embedx.predict`.
            label: the column with the labels to calibrate on; by default "label" where it has values.
            where: an SQL condition on the stored rows; all if None.
            timeout: seconds that the condition can take; default 30.
            per: "window" (default), or "recording": all windows of a recording (and channel) together.
            aggregate: how the windows of a recording are combined: the "mean" of their probabilities (default), or the
                "max" of each class.
            k: number of most probable classes to return with their probabilities; default 1.
            precision, recall: predict a class only from the threshold that has this precision (or recall) on new
                windows or recordings, with a confidence of 95 %; give at most one of the two.
            options: the keywords from `per` on.

        Returns:
            The predictions in the order of the rows or files, with the files that could not be read in `failures`.

        Raises:
            UsageError: an invalid argument; there is no such head; `where` together with a source.
            RecipeMismatch: the head was trained on vectors of another recipe.
            ModelError: audio is given, and the model of the collection is missing.
        """
        from embedx.collection.predicting import Naming, predict_without_head
        from embedx.heads.head import Head
        from embedx.training.predict import PredictOptions, predict

        if source is not None and where is not None:
            raise UsageError("where selects stored rows; it cannot be combined with audio as the source.")
        naming = Naming(classifier, zero_shot, prompt, label)
        choice = PredictOptions(**options)
        chosen = naming.check(head) or (head if isinstance(head, Head) else self.head(head))
        items = None if source is None else read_corpus(source)
        with self.snapshot() if items is None else nullcontext():
            ids = self._select_ids(where, timeout)
            if isinstance(chosen, Naming):
                return predict_without_head(self, items, ids, choice, chosen)
            return predict(self.store, chosen, self._load_embedder, items, ids, choice)

    @from_one_state
    def suggest(
        self,
        *,
        head: "str | Head | None" = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        view: str | None = None,
        **options: Unpack[SuggestKwargs],
    ) -> "Suggestions":
        """Choose rows without a label to label next, the most useful first.

        Args:
            head: a head or its name; None for the only head. "diverse" and "random" need none.
            where: an SQL condition on the rows to choose from; all if None.
            timeout: seconds that the condition can take; default 30.
            view: for "diverse", the vectors that are compared; by default those of the head, or the default view.
            by: "margin" (default): the two most probable classes are closest. "uncertainty": the highest entropy.
                "diverse": the farthest from all labelled rows. "band": a probability in `score_band`. "random".
            n: number of rows; default 20.
            label: the label column that is empty; by default the one that the head learned, or "label".
            of_class: for "band", the class; by default the most probable one.
            score_band: for "band", the lowest and the highest probability.
            stratify: a column whose values take turns ("path": every recording).
            seed: the seed of "random"; default 0.
            options: the keywords from `by` on.

        Returns:
            The rows; `columns()` is a table to fill in for `embedx label`.

        Raises:
            UsageError: an invalid argument; there is no such head.
            NothingToDo: every row has a label.
        """
        from embedx.heads.head import Head
        from embedx.training.active_learning import WITHOUT_HEAD, SuggestOptions, suggest

        choice = SuggestOptions(**options)
        needs_none = choice.by in WITHOUT_HEAD and head is None and len(self.heads()) != 1
        chosen = None if needs_none else head if isinstance(head, Head) else self.head(head)
        views = view or (chosen.views if chosen else self.recipe.default_view)
        return suggest(self.store, chosen, views, choice, self._select_ids(where, timeout))
