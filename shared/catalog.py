"""Every label and pipeline that MedQ knows; label sets live here and nowhere else."""

from dataclasses import dataclass
from typing import Literal

Lang = Literal["en", "ko", "fr"]
LANGUAGES: tuple[Lang, ...] = ("en", "ko", "fr")
HeadKind = Literal["classify", "grade", "segment"]
Urgency = Literal["emergency", "within_24h", "within_days", "routine", "self_care"]
SKIN_MODALITIES = frozenset({"dermoscopy"})  # pictures of one spot on the skin


@dataclass(frozen=True)
class Label:
    """What a head can say; `aliases` are older names that importers accept.

    `urgency` is the least that a finding of it asks for, whatever a text says. What must not be missed has a
    `sensitivity`: its threshold flags this share of its pictures in `val`.
    """

    code: str
    en: str
    ko: str
    fr: str
    aliases: tuple[str, ...] = ()
    colour: tuple[int, int, int] | None = None  # red, green, blue in masks and overlays; None: not drawn
    urgency: Urgency | None = None
    sensitivity: float | None = None  # None: where sensitivity and specificity add up to most

    def name(self, lang: Lang) -> str:
        return {"en": self.en, "ko": self.ko, "fr": self.fr}[lang]


@dataclass(frozen=True)
class Head:
    """One question to one network: `weights` names the folder in workers/models that answers it.

    A pipeline works without the weights of an optional head, and then says nothing of what that head would.
    """

    kind: HeadKind
    weights: str
    labels: tuple[Label, ...]
    grades: tuple[Label, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Pipeline:
    """A question that we can ask of an image, and the heads that answer it in order."""

    name: str
    title: Label
    modality: str
    heads: tuple[Head, ...]
    sites: tuple[str, ...] = ()
    prompt: str = "findings"

    @property
    def labels(self) -> tuple[Label, ...]:
        """The first head's labels: the ones that findings speak of."""
        return self.heads[0].labels

    @property
    def required(self) -> tuple[Head, ...]:
        return tuple(head for head in self.heads if not head.optional)

    @property
    def classifier(self) -> Head | None:
        """The head whose findings can be explained."""
        return next((head for head in self.heads if head.kind == "classify"), None)

    @property
    def of_skin(self) -> bool:
        """Whether it looks at one spot on the skin, so that an answer may speak of it and name a dermatologist."""
        return self.modality in SKIN_MODALITIES

    @property
    def group(self) -> str:
        """Workers consume groups: one per set of weights that load together."""
        return self.name

    def label(self, code: str) -> Label:
        for label in self.labels:
            if label.code == code:
                return label
        raise KeyError(f"{self.name} has no label {code!r}; it has {[x.code for x in self.labels]}")


# HAM10000's seven classes. Order is the order of the logits. Source: doi:10.1038/sdata.2018.161.
SKIN_LABELS = (
    Label(
        "akiec",
        "Actinic keratoses / intraepithelial carcinoma",
        "광선각화증",
        "Kératoses actiniques / carcinome intraépithélial",
        urgency="routine",
    ),
    Label("bcc", "Basal cell carcinoma", "기저세포암", "Carcinome basocellulaire", urgency="routine"),
    Label("bkl", "Benign keratosis-like lesions", "지루각화증", "Lésions bénignes de type kératose"),
    Label("df", "Dermatofibroma", "피부섬유종", "Dermatofibrome", aliases=("섬유종",)),
    Label("mel", "Melanoma", "흑색종", "Mélanome", urgency="within_days", sensitivity=0.90),
    Label("nv", "Melanocytic nevi", "모반(점)", "Nævus mélanocytaires", aliases=("반점",)),
    Label("vasc", "Vascular lesions", "혈관종", "Lésions vasculaires"),
)

SKIN_SITES = (
    "back", "lower extremity", "trunk", "upper extremity", "abdomen", "face", "chest", "foot",
    "unknown", "neck", "scalp", "hand", "ear", "genital", "acral",
)  # fmt: skip

# AI-Hub 216: six conditions, each graded 0-3.
SCALP_LABELS = (
    Label("fine_scale", "Fine keratin / scaling", "미세각질", "Squames fines", aliases=("value_1",)),
    Label("excess_sebum", "Excess sebum", "피지과다", "Excès de sébum", aliases=("value_2",)),
    Label(
        "interfollicular_erythema",
        "Interfollicular erythema",
        "모낭사이홍반",
        "Érythème interfolliculaire",
        aliases=("value_3",),
    ),
    Label(
        "follicular_erythema_pustule",
        "Follicular erythema / pustule",
        "모낭홍반/농포",
        "Érythème folliculaire / pustule",
        aliases=("value_4",),
    ),
    Label("dandruff", "Dandruff", "비듬", "Pellicules", aliases=("value_5",)),
    Label("hair_loss", "Hair loss", "탈모", "Perte de cheveux", aliases=("value_6",)),
)
SCALP_GRADES = (
    Label("0", "good", "양호", "bon"),
    Label("1", "mild", "경증", "léger"),
    Label("2", "moderate", "중등도", "modéré"),
    Label("3", "severe", "중증", "sévère"),
)
SCALP_SITES = ("crown", "left", "right", "back", "unknown")

# The mask's value is the position in the tuple. Red to yellow are the published X-ray overlay's, in its order;
# cyan is seen on skin of every colour.
RED, GREEN, BLUE, YELLOW, CYAN = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)
ABDOMINAL_LABELS = (
    Label("normal", "Normal", "증상 없음", "Normal"),
    Label(
        "pyloric_stenosis",
        "Pyloric stenosis",
        "유문협착증",
        "Sténose du pylore",
        colour=RED,
        urgency="within_24h",
    ),
    Label(
        "pneumoperitoneum", "Pneumoperitoneum", "기복증", "Pneumopéritoine", colour=GREEN, urgency="emergency"
    ),
    Label(
        "air_fluid_level",
        "Air-fluid level",
        "공기액체층",
        "Niveau hydro-aérique",
        colour=BLUE,
        urgency="within_24h",
    ),
    Label("constipation", "Constipation", "변비", "Constipation", colour=YELLOW),
)
CHEST_LABELS = (
    Label("background", "Background", "배경", "Arrière-plan"),
    Label("left_lung", "Left lung", "왼쪽 폐", "Poumon gauche", colour=RED),
    Label("right_lung", "Right lung", "오른쪽 폐", "Poumon droit", colour=GREEN),
    Label("cardiomediastinum", "Cardiomediastinum", "심장종격동", "Cardiomédiastin", colour=BLUE),
    Label("airways", "Airways", "기도", "Voies aériennes", colour=YELLOW),
)
LESION_LABELS = (
    Label("background", "Background", "배경", "Arrière-plan"),
    Label("lesion", "Skin lesion", "피부 병변", "Lésion cutanée", colour=CYAN),
)

PIPELINES: dict[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(
            "skin",
            Label("skin", "Skin lesion", "피부 병변 분류", "Lésion cutanée"),
            "dermoscopy",
            (
                Head("classify", "skin", SKIN_LABELS),
                Head("segment", "lesion", LESION_LABELS, optional=True),
            ),
            SKIN_SITES,
        ),
        Pipeline(
            "scalp",
            Label("scalp", "Scalp condition", "두피 상태", "État du cuir chevelu"),
            "trichoscopy",
            (Head("grade", "scalp", SCALP_LABELS, SCALP_GRADES),),
            SCALP_SITES,
        ),
        Pipeline(
            "lesion",
            Label("lesion", "Skin lesion outline", "피부 병변 영역", "Contour de lésion cutanée"),
            "dermoscopy",
            (Head("segment", "lesion", LESION_LABELS),),
            SKIN_SITES,
        ),
        Pipeline(
            "chest-xray",
            Label("chest-xray", "Chest X-ray anatomy", "흉부 X선 해부", "Anatomie du thorax"),
            "x-ray",
            (Head("segment", "chest-xray", CHEST_LABELS),),
        ),
        Pipeline(
            "abdominal-xray",
            Label("abdominal-xray", "Abdominal X-ray", "복부 X선", "Abdomen sans préparation"),
            "x-ray",
            (Head("segment", "abdominal-xray", ABDOMINAL_LABELS),),
        ),
    )
}
DEFAULT_PIPELINE = "skin"
