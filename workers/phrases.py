"""The sentences of our own answers, the same in every language; a missing one is a type error."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.catalog import Lang, Urgency


@dataclass(frozen=True)
class Phrases:
    suggests: str  # {name}
    resembles: str  # {name} {percent}
    sure: tuple[str, str, str, str]  # from very sure to unsure
    percent: tuple[str, str, str]  # under 1, {n}, over 99
    also_marked: str  # {name} {percent}
    low_bar: str
    other: str  # {name} {percent}
    others: str  # {names}
    no_text: str  # {names}
    hint: str
    included: str  # {names}
    told: Mapping[str, str]  # what a job may tell besides the picture
    undecided: str  # {name} {percent}
    nothing: str
    measured: str  # {items}
    area: str  # {name} {percent}
    neither: str
    low_quality: str
    out_of_distribution: str
    next_steps: Mapping[Urgency, str]
    elsewhere: str  # the next step where no spot on the skin was looked at
    elsewhere_cannot_tell: tuple[str, str]
    mention: str  # {name}
    cannot_tell: tuple[str, str, str]  # the last one: {count}
    question: str
    no_model: str
    unreviewed: str
    reviewed: str  # {names}
    by_model: str  # {model}
    no_result: str
    emergency: str
    self_harm: str
    soon: str
    nearest: str
    from_added: str  # {title} {source} {date}
    unanswered: str


PHRASES: Mapping[Lang, Phrases] = {
    "en": Phrases(
        suggests="What the picture suggests: {name}.",
        resembles="The picture looks most like {name} ({percent}), but not clearly enough for us to name it.",
        sure=(
            "The program is very sure of this ({percent}).",
            "The program is fairly sure of this ({percent}).",
            "The program is not very sure of this ({percent}).",
            "The program is unsure of this ({percent}).",
        ),
        percent=("less than 1%", "{n}%", "more than 99%"),
        also_marked="It also sees signs of {name} ({percent}), enough that we advise having it looked at.",
        low_bar=(
            "For this finding we set the bar low on purpose, so that few are missed; "
            "what is above it often turns out to be something else."
        ),
        other="{name}: {percent}",
        others="Other possibilities that it weighed: {names}.",
        no_text=(
            "MedQ has no text about this yet: {names}. It can say what the program found, and not what it means."
        ),
        hint="This is a hint from a computer program, not a diagnosis.",
        included="What you told is part of this result already and must not be counted a second time: {names}.",
        told={"age": "age", "sex": "sex", "site": "body site"},
        undecided=(
            "The program could not decide what this picture shows. Its nearest match is {name} ({percent}), "
            "but that does not reach the level from which we name a finding."
        ),
        nothing="The program found nothing in this picture that it can name.",
        measured="What the program measured in this picture: {items}.",
        area="{name}, {percent} of the picture",
        neither=(
            "This does not mean that what the picture shows is harmless, and it does not mean that it is dangerous."
        ),
        low_quality=(
            "The picture is hard to read, so the result is less reliable. If you can, send a sharper, "
            "evenly lit one."
        ),
        out_of_distribution=(
            "This picture differs from those that the program learned from, so its result may mean nothing."
        ),
        next_steps={
            "emergency": "Get emergency help now.",
            "within_24h": "Be seen by a doctor today or tomorrow.",
            "within_days": (
                "Have the spot examined by a dermatologist, or by your family doctor, "
                "within the next few days. This is a reason to go soon; by itself it is not an emergency."
            ),
            "routine": (
                "Have the spot looked at by a dermatologist or your family doctor at an ordinary "
                "appointment in the coming weeks; go sooner if it grows, bleeds or changes."
            ),
            "self_care": (
                "This result alone gives no reason for an appointment. Keep an eye on the spot, and show it "
                "to a doctor if it changes or if it worries you."
            ),
        },
        elsewhere=(
            "Show this result, with the picture, to the doctor who had the picture taken, or to your family doctor."
        ),
        elsewhere_cannot_tell=(
            "Only a doctor who knows you and sees the whole picture can tell what it means.",
            "The program looks for a few things that it was taught, and for nothing else.",
        ),
        mention="Tell them that a picture check pointed to {name}.",
        cannot_tell=(
            "Only an examination, sometimes with a tissue sample, can tell what the spot is.",
            "A picture does not show how the spot feels, whether it has changed or how deep it goes.",
            "The program knows {count} kinds of finding and gives one of these names to anything it sees.",
        ),
        question=(
            "This built-in answer explains the findings and cannot take up your question itself: please put "
            "it to the doctor. If something is urgent, such as bleeding that does not stop, "
            "get emergency help now."
        ),
        no_model="No language model was used for this answer. It is put together from MedQ’s own texts,",
        unreviewed="which are not reviewed by a clinician.",
        reviewed="reviewed by {names}.",
        by_model=(
            "This answer was written by a language model ({model}). A program compared it with the findings "
            "and with MedQ’s own texts,"
        ),
        no_result="We therefore do not interpret it.",
        emergency=(
            "What you describe can be an emergency. Get emergency help now: call your emergency number "
            "(112, 999 or 911) or have somebody take you to an emergency department. "
            "Do not wait for an answer about a picture."
        ),
        self_harm=(
            "If you are thinking of ending your life, do not stay alone with it: speak to somebody now, "
            "in the United States on 988, in the United Kingdom and Ireland on 116 123."
        ),
        soon="Whatever the picture shows, a doctor should see today or tomorrow what you describe.",
        nearest="What our texts say that comes nearest to your question:",
        unanswered="None of our texts answers this question: please put it to the doctor.",
        from_added="From “{title}” ({source}, {date}), a text that this service has added:",
    ),
    "ko": Phrases(
        suggests="사진과 가장 비슷한 것: {name}.",
        resembles="사진과 가장 비슷한 것은 {name}({percent})이지만, 그렇다고 말할 만큼 분명하지는 않습니다.",
        sure=(
            "프로그램은 이 결과를 매우 확신합니다({percent}).",
            "프로그램은 이 결과를 꽤 확신합니다({percent}).",
            "프로그램은 이 결과를 그다지 확신하지 못합니다({percent}).",
            "프로그램은 이 결과를 확신하지 못합니다({percent}).",
        ),
        percent=("1% 미만", "{n}%", "99% 이상"),
        also_marked="다음의 징후도 보입니다: {name}({percent}). 진료를 받아 보시길 권하는 수준입니다.",
        low_bar=(
            "이 소견은 놓치지 않으려고 기준을 일부러 낮게 잡았습니다. "
            "기준을 넘어도 다른 것으로 밝혀지는 경우가 많습니다."
        ),
        other="{name}: {percent}",
        others="함께 고려한 다른 가능성: {names}.",
        no_text=(
            "이에 대한 MedQ의 설명 글은 아직 없습니다: {names}. "
            "프로그램이 찾은 것만 말할 수 있고, 그것이 무엇을 뜻하는지는 말할 수 없습니다."
        ),
        hint="이것은 컴퓨터 프로그램이 주는 참고 정보이며 진단이 아닙니다.",
        included="알려 주신 다음 정보는 이 결과에 이미 반영되어 있으므로 다시 고려하면 안 됩니다: {names}.",
        told={"age": "나이", "sex": "성별", "site": "부위"},
        undecided=(
            "프로그램은 이 사진이 무엇인지 판단하지 못했습니다. 가장 가까운 것은 {name}({percent})이지만, "
            "소견이라고 말할 수 있는 수준에는 미치지 못합니다."
        ),
        nothing="프로그램은 이 사진에서 이름을 붙일 만한 것을 찾지 못했습니다.",
        measured="프로그램이 이 사진에서 잰 것: {items}.",
        area="{name}, 사진의 {percent}",
        neither="해롭지 않다는 뜻도 아니고, 위험하다는 뜻도 아닙니다.",
        low_quality=(
            "사진을 알아보기 어려워 결과의 신뢰도가 떨어집니다. "
            "가능하면 더 선명하고 고르게 밝은 사진을 보내 주세요."
        ),
        out_of_distribution=(
            "이 사진은 프로그램이 학습한 사진들과 달라서 결과가 아무 의미가 없을 수도 있습니다."
        ),
        next_steps={
            "emergency": "지금 바로 응급 진료를 받으세요.",
            "within_24h": "오늘이나 내일 안에 의사의 진료를 받으세요.",
            "within_days": (
                "며칠 안에 피부과 의사나 가까운 병원의 의사에게 이 부위를 보이세요. "
                "서둘러 진료를 받을 이유이지만, 이것만으로 응급 상황은 아닙니다."
            ),
            "routine": (
                "앞으로 몇 주 안에 일반 진료로 피부과 의사나 가까운 병원의 의사에게 이 부위를 보이세요. "
                "커지거나 피가 나거나 변하면 더 빨리 가세요."
            ),
            "self_care": (
                "이 결과만으로는 진료를 예약할 이유가 없습니다. 지켜보다가 변하거나 "
                "걱정되면 의사에게 보이세요."
            ),
        },
        elsewhere="이 결과를 사진과 함께, 촬영을 의뢰한 의사나 가까운 병원의 의사에게 보이세요.",
        elsewhere_cannot_tell=(
            "이것이 무엇을 뜻하는지는 환자를 알고 사진 전체를 보는 의사만이 알 수 있습니다.",
            "프로그램은 배운 몇 가지만 찾으며 그 밖의 것은 보지 않습니다.",
        ),
        mention="사진 검사에서 나온 결과도 함께 말씀하세요: {name}.",
        cannot_tell=(
            "무엇인지는 진찰을 받아야, 때로는 조직 검사까지 해야 알 수 있습니다.",
            "사진으로는 만졌을 때의 느낌, 변했는지 여부, 깊이를 알 수 없습니다.",
            "프로그램이 아는 소견은 {count}가지이며, 무엇을 보든 그 가운데 하나의 이름을 붙입니다.",
        ),
        question=(
            "이 기본 답변은 결과만 설명하며 질문 자체에는 답할 수 없습니다. 질문은 의사에게 해 주세요. "
            "멈추지 않는 출혈처럼 급한 일이 있으면 지금 바로 응급 진료를 받으세요."
        ),
        no_model="이 답변에는 언어 모델을 쓰지 않았습니다. MedQ가 직접 쓴 글로 만들었으며,",
        unreviewed="이 글은 임상의의 검토를 받지 않았습니다.",
        reviewed="{names}의 검토를 받았습니다.",
        by_model=(
            "이 답변은 언어 모델({model})이 썼습니다. 프로그램이 그 내용을 소견과 MedQ가 직접 쓴 글에 견주어 확인했으며,"
        ),
        no_result="그래서 이 사진은 풀이하지 않습니다.",
        emergency=(
            "말씀하신 내용은 응급 상황일 수 있습니다. 지금 바로 119에 전화하거나 응급실로 가세요. "
            "사진에 대한 답을 기다리지 마세요."
        ),
        self_harm=(
            "스스로 목숨을 끊고 싶은 생각이 든다면 혼자 있지 말고 지금 바로 109(자살예방 상담전화)나 "
            "가까운 사람에게 이야기하세요."
        ),
        soon="사진 결과와 관계없이, 말씀하신 증상은 오늘이나 내일 안에 의사의 진료를 받으세요.",
        nearest="질문과 가장 가까운 저희 글의 내용:",
        unanswered="저희 글에는 이 질문에 대한 답이 없습니다. 의사에게 물어보세요.",
        from_added="이 서비스가 추가한 글 ‘{title}’({source}, {date})에서:",
    ),
    "fr": Phrases(
        suggests="Ce que l'image suggère : {name}.",
        resembles=(
            "L'image ressemble le plus à ceci : {name} ({percent}), mais pas assez nettement pour l'affirmer."
        ),
        sure=(
            "Le programme en est très sûr ({percent}).",
            "Le programme en est assez sûr ({percent}).",
            "Le programme n'en est pas très sûr ({percent}).",
            "Le programme n'en est pas sûr ({percent}).",
        ),
        percent=("moins de 1 %", "{n} %", "plus de 99 %"),
        also_marked=(
            "Il voit aussi des signes de {name} ({percent}), assez pour que nous conseillions un examen."
        ),
        low_bar=(
            "Pour ce résultat, nous avons placé le seuil bas exprès, afin d'en manquer peu ; "
            "souvent, ce qui est au-dessus du seuil se révèle être autre chose."
        ),
        other="{name} : {percent}",
        others="Autres possibilités envisagées : {names}.",
        no_text=(
            "MedQ n'a pas encore de texte à ce sujet : {names}. "
            "Il peut dire ce que le programme a trouvé, et non ce que cela signifie."
        ),
        hint="C'est un indice donné par un programme informatique, pas un diagnostic.",
        included="Ce que vous avez indiqué fait déjà partie de ce résultat et ne doit pas être compté une seconde fois : {names}.",
        told={"age": "âge", "sex": "sexe", "site": "partie du corps"},
        undecided=(
            "Le programme n'a pas pu décider ce que montre cette image. Ce qui s'en rapproche le plus : {name} "
            "({percent}), mais cela n'atteint pas le niveau à partir duquel nous nommons un résultat."
        ),
        nothing="Le programme n'a rien trouvé dans cette image qu'il puisse nommer.",
        measured="Ce que le programme a mesuré dans cette image : {items}.",
        area="{name}, {percent} de l'image",
        neither="Cela ne veut pas dire que ce que montre l'image est sans danger, ni que c'est dangereux.",
        low_quality=(
            "L'image est difficile à lire, le résultat est donc moins fiable. Si vous le pouvez, "
            "envoyez-en une plus nette, éclairée de façon régulière."
        ),
        out_of_distribution=(
            "Cette image diffère de celles que le programme a apprises ; "
            "son résultat peut ne rien vouloir dire."
        ),
        next_steps={
            "emergency": "Appelez les secours maintenant.",
            "within_24h": "Faites-vous examiner par un médecin aujourd'hui ou demain.",
            "within_days": (
                "Faites examiner la tache par un dermatologue, ou par votre médecin traitant, "
                "dans les prochains jours. C'est une raison de consulter vite ; "
                "à elle seule, ce n'est pas une urgence."
            ),
            "routine": (
                "Faites examiner la tache par un dermatologue ou votre médecin traitant lors d'un rendez-vous "
                "ordinaire, dans les semaines qui viennent ; plus tôt si elle grandit, saigne ou change."
            ),
            "self_care": (
                "Ce résultat seul n'est pas une raison de prendre rendez-vous. Surveillez la tache, et "
                "montrez-la à un médecin si elle change ou si elle vous inquiète."
            ),
        },
        elsewhere=(
            "Montrez ce résultat, avec l'image, au médecin qui l'a demandée ou à votre médecin traitant."
        ),
        elsewhere_cannot_tell=(
            "Seul un médecin qui vous connaît et voit l'image entière peut dire ce qu'elle signifie.",
            "Le programme cherche quelques éléments qu'il a appris, et rien d'autre.",
        ),
        mention="Dites qu'une analyse d'image a donné ce résultat : {name}.",
        cannot_tell=(
            "Seul un examen, parfois avec un prélèvement, permet de savoir ce qu'est la tache.",
            "Une image ne montre ni ce que l'on sent au toucher, ni si la tache a changé, ni sa profondeur.",
            "Le programme connaît {count} sortes de résultats et donne un de ces noms à tout ce qu'il voit.",
        ),
        question=(
            "Cette réponse toute prête explique les résultats et ne peut pas répondre à votre question "
            "elle-même : posez-la au médecin. En cas d'urgence, par exemple un saignement qui ne s'arrête pas, "
            "appelez les secours maintenant."
        ),
        no_model=(
            "Aucun modèle de langage n'a été utilisé pour cette réponse. "
            "Elle est composée de textes propres à MedQ,"
        ),
        unreviewed="qui n'ont pas été relus par un clinicien.",
        reviewed="relus par {names}.",
        by_model=(
            "Cette réponse a été écrite par un modèle de langage ({model}). Un programme l'a comparée "
            "aux résultats et aux textes propres à MedQ,"
        ),
        no_result="Nous ne l'interprétons donc pas.",
        emergency=(
            "Ce que vous décrivez peut être une urgence. Appelez les secours maintenant (15 ou 112), ou "
            "faites-vous conduire aux urgences. N'attendez pas une réponse sur une image."
        ),
        self_harm=(
            "Si vous pensez à mettre fin à vos jours, ne restez pas seul : parlez à quelqu'un maintenant, "
            "en France au 3114, en Belgique au 0800 32 123, en Suisse au 143."
        ),
        soon=(
            "Quoi que montre l'image, ce que vous décrivez doit être vu par un médecin aujourd'hui ou demain."
        ),
        nearest="Ce que nos textes disent de plus proche de votre question :",
        unanswered="Aucun de nos textes ne répond à cette question : posez-la au médecin.",
        from_added="Extrait de « {title} » ({source}, {date}), un texte ajouté par ce service :",
    ),
}
