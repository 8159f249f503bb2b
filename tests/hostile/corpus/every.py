"""The whole corpus, by family."""

from tests.hostile.case import Case
from tests.hostile.corpus import (
    archives,
    attributes,
    bombs,
    documents,
    headers,
    kinds,
    layouts,
    links,
    names,
    numbers,
    paths,
    sparse,
    tars,
    whiteouts,
)

FAMILIES: dict[str, list[Case]] = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (
        paths,
        links,
        whiteouts,
        kinds,
        numbers,
        headers,
        sparse,
        names,
        attributes,
        archives,
        layouts,
        documents,
        bombs,
        tars,
    )
}
CASES = [case for family in FAMILIES.values() for case in family]
