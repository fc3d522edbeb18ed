"""Valid jobs of every shape, for property tests."""

from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
uris = text.map("s3://bucket/{}".format)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def positive(limit: float) -> Strategy:
    return st.floats(0, limit, exclude_min=True, exclude_max=True)


def some(**fields: Strategy) -> Strategy:
    """A mapping with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def one_of(**fields: Strategy) -> Strategy:
    """A mapping with exactly one of the fields."""
    return st.one_of(*(st.fixed_dictionaries({name: values}) for name, values in fields.items()))


locations = {"endpoint": st.just("https://minio:9000"), "region": text, "secretRef": st.just({"name": "s3"})}
sources = st.lists(
    st.fixed_dictionaries(
        {"uri": uris},
        optional=locations
        | {"column": text, "weight": positive(100), "format": st.sampled_from(["parquet", "jsonl", "text"])}
        | {"values": st.dictionaries(text, text, max_size=2)},
    ),
    min_size=1,
    max_size=3,
)
mixtures = some(
    mixture=st.fixed_dictionaries({"temperature": st.floats(1, 100)}, optional={"column": st.just("language")})
)
cleanings = some(
    length=some(minWords=st.integers(1, 9), maxCharacters=st.integers(1, 999)),
    characters=some(minLetters=positive(1)),
    audio=some(minLevel=st.floats(-90, 0), maxClipped=st.floats(0, 1)),
    filters=st.lists(st.sampled_from(["gopherQuality", "gopherRepetition", "c4"]), max_size=3),
    duplicates=st.sampled_from(["exact", "near"]),
    mask=st.lists(st.sampled_from(["emailAddress", "ipAddress", "phoneNumber"]), max_size=3),
    balance=st.lists(text, max_size=2),
)
parents = one_of(
    pretrainJob=names,
    finetuneJob=names,
    uri=uris,
    hub=st.just({"repo": "org/name", "revision": "0123456789abcdef0123456789abcdef01234567"}),
)
tokenizers = {"train": some(algorithm=st.sampled_from(["bpe", "unigram"]), vocabSize=st.integers(64, 9999))}
scratch = st.fixed_dictionaries(
    {
        "model": st.fixed_dictionaries(
            {
                "architecture": st.fixed_dictionaries(
                    {"type": st.just("llama"), "config": st.dictionaries(text, json_values, max_size=4)}
                )
            }
        ),
        "tokenizer": one_of(**tokenizers, **{"from": parents}),
    }
)
continued = st.fixed_dictionaries({"model": st.fixed_dictionaries({"from": parents})})
training = st.fixed_dictionaries(
    {"epochs": positive(9)},
    optional={
        "maxSteps": st.integers(1, 10_000),
        "learningRate": positive(1),
        "gradientClip": st.none() | positive(9),
        "schedule": st.sampled_from(["constant", "cosine", "warmupStableDecay"]),
        "instability": some(maxSkippedSteps=st.integers(0, 9)),
        "compile": st.booleans(),
    },
)
batches = one_of(tokensPerStep=st.integers(1, 10**9), examplesPerStep=st.integers(1, 10**6))
rates = positive(1)
spans = {"maskingRate": rates, "meanSpanLength": st.floats(1, 100)}
images = st.fixed_dictionaries(
    {"labels": st.lists(text, min_size=2, max_size=4, unique=True)},
    optional={
        "labelColumn": text,
        "imageSize": st.integers(4, 512),
        "labelSmoothing": st.floats(0, 0.9),
        "crop": positive(1),
        "randAugment": some(operations=st.integers(1, 3), magnitude=st.integers(1, 10)),
        "mixup": positive(9),
        "freezeBatchNorm": st.booleans(),
    },
)
contrastive = some(imageColumn=text, flip=st.booleans(), zeroShot=images.map(lambda drawn: {"labels": drawn["labels"]}))
objectives = one_of(
    causalLM=st.just({}),
    maskedLM=some(maskingRate=rates, wholeWord=st.booleans(), nextSentence=st.booleans()),
    denoising=one_of(spanCorruption=some(**spans), infilling=some(**spans)),
    contrastive=contrastive,
)
pictures = st.one_of(
    st.fixed_dictionaries({"imageClassification": images}),
    st.fixed_dictionaries({"maskedImage": some(maskRatio=rates, normalizePixels=st.booleans(), crop=positive(1))}),
)
speech = some(
    transcriptColumn=text, samplingRate=st.integers(1_000, 48_000), maxSeconds=positive(600), language=st.just("en")
)
tasks = one_of(
    chat=some(template=text, systemColumn=text)
    | st.fixed_dictionaries({"answerColumn": text}, optional={"contextColumn": text, "template": text}),
    causalLM=st.just({}),
    sequenceClassification=st.fixed_dictionaries(
        {"labels": st.lists(text, min_size=2, max_size=4, unique=True)},
        optional={"classWeights": st.dictionaries(text, positive(9), max_size=2), "pairColumn": text},
    ),
    tokenClassification=st.fixed_dictionaries(
        {"labels": st.lists(text, min_size=1, max_size=4, unique=True)}, optional={"labelColumn": text}
    ),
    sequenceRegression=some(targetColumn=text, pairColumn=text),
    contrastive=contrastive,
    preference=some(chosenColumn=text, beta=positive(9), template=text),
    summarization=some(targetColumn=text, prompt=text.map("{} {{text}}".format), maxTargetTokens=st.integers(1, 999)),
    translation=some(languageColumn=text, prompt=text.map("{} {{text}}".format), beams=st.integers(1, 16)),
    embedding=some(
        positiveColumn=text,
        hardNegatives=some(column=text, perQuery=st.integers(1, 64)),
        pooling=st.sampled_from(["mean", "cls", "last"]),
        temperature=positive(9),
        queryPrefix=text,
    ),
    questionAnswering=some(questionColumn=text, unanswerable=st.booleans(), maxAnswerTokens=st.integers(1, 99)),
)
methods = one_of(
    full=some(layerDecay=rates),
    lora=some(
        rank=st.integers(1, 64), alpha=positive(64), rankStabilized=st.booleans(), weightDecomposed=st.booleans()
    ),
    ia3=some(merge=st.booleans()),
    adapter=some(channels=st.integers(1, 99), placement=st.sampled_from(["houlsby", "pfeiffer"])),
    prefix=some(tokens=st.integers(1, 99), projected=st.booleans()),
    promptTuning=some(tokens=st.integers(1, 99)),
    freeze=some(lastBlocks=st.integers(1, 9)),
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Valid jobs of both kinds."""
    train = draw(sources)
    spec = draw(scratch | continued) | {
        "data": {
            "train": train,
            **draw(some(validation=one_of(fraction=positive(0.5), sources=sources), cleaning=cleanings)),
            **(draw(mixtures) if not any("weight" in source for source in train) else {}),
        },
        "training": draw(training) | draw(batches),
        "storage": {"uri": draw(uris)} | draw(some(**locations)),
    }
    spec |= draw(some(checkpoint=some(keep=st.integers(1, 9)), compute=some(workers=st.integers(1, 9), pool=names)))
    tracker = st.fixed_dictionaries({"uri": st.just("https://mlflow")}, optional={"experiment": text})
    spec |= draw(some(tracking=st.fixed_dictionaries({"mlflow": tracker})))
    spec |= draw(some(evaluation=some(everySteps=st.integers(1, 99), maxBatches=st.integers(1, 99))))
    spec |= draw(some(suspend=st.booleans(), retry=st.integers(0, 9), activeDeadlineSeconds=st.integers(1, 9999)))
    pretrain = draw(st.booleans())
    spec |= {"objective": draw(objectives)} if pretrain else {"task": draw(tasks)} | draw(some(method=methods))
    if draw(st.booleans()):
        spec |= {"objective": draw(pictures)} if pretrain else {"task": {"imageClassification": draw(images)}}
        spec.pop("tokenizer", None)
        spec["training"].pop("tokensPerStep", None)
        spec["training"]["examplesPerStep"] = 8
    elif draw(st.booleans()):
        spec["objective" if pretrain else "task"] = {"speechRecognition": draw(speech)}
        spec["training"].pop("tokensPerStep", None)
        spec["training"]["examplesPerStep"] = 8
    kind = "PretrainJob" if pretrain else "FinetuneJob"
    metadata = {"name": draw(names)} | draw(some(labels=st.dictionaries(text, text, max_size=2)))
    return {"apiVersion": "pretune.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
