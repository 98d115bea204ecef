"""fixtures/chemistry.py and the lm-eval task that reads it, on a tiny source with the faults of the real tables."""

import json
import re
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from fixtures import chemistry
from fixtures.chemistry import main, questions, split

ELEMENT = (
    "atomic_number symbol name group_id period series_id block atomic_weight is_radioactive en_pauling "
    "electronic_configuration discovery_year"
)
ELEMENTS = [
    (1, "H", "Hydrogen", 1, 1, 1, "s", 1.008, 0, 2.2, "1s", 1766),
    (6, "C", "Carbon", 14, 2, 1, "p", 12.011, 0, 2.55, "[He] 2s2 2p2", None),
    (7, "N", "Nitrogen", 15, 2, 1, "p", 14.007, 0, 3.04, "[He] 2s2 2p3", 1772),
    (8, "O", "Oxygen", 16, 2, 1, "p", 15.999, 0, 3.44, "[He] 2s2 2p4", 1774),
    (11, "Na", "Sodium", 1, 3, 3, "s", 22.98976928, 0, 0.93, "[Ne] 3s", 1807),
    (26, "Fe", "Iron", 8, 4, 8, "d", 55.845, 0, 1.83, "[Ar] 3d6 4s2", None),
    (43, "Tc", "Technetium", 7, 5, 8, "d", 97.9, 1, 2.1, "[Kr] 4d5 5s2", 1937),
    (57, "La", "Lanthanum", 3, 6, 9, "d", 138.90547, 0, 1.1, "[Xe] 5d 6s2", 1839),
    (60, "Nd", "Neodymium", None, 6, 9, "f", 144.242, 0, 1.14, "[Xe] 4f4 6s2", 1925),
    (118, "Og", "Oganesson", 18, 7, 2, "p", 294.0, 1, None, "[Rn] 5f14 6d10 7s2 7p6", 2002),
]
SERIES = [(1, "Nonmetals"), (2, "Noble gases"), (3, "Alkali metals"), (8, "Transition metals"), (9, "Lanthanides")]
STATES = [(26, 3, "main"), (26, 2, "main"), (26, 6, "extended"), (6, 0, "main"), (11, 1, "main")]
ISOTOPES = [(26, 56, 91.754), (26, 54, 5.845), (26, 60, None), (1, 1, 99.98), (1, 2, 0.02), (6, 12, 98.93)]
PHASE = "atomic_number boiling_point melting_point allotrope is_sublimation_point is_transition"
PHASES = [
    (26, 3134.15, 1811.15, None, None, None),
    (8, 90.188, 54.36, None, None, None),
    (6, 4098.15, None, "graphite", 1, None),
    (11, 1156.09, 370.944, None, None, None),
    (11, 1.0, 2.0, None, None, 1),  # a transition between two solids
    (60, None, None, None, None, None),
]
COMPOUNDS = [  # CAS, formula, molar mass, SMILES, InChIKey, name, number of synonyms
    ("64-17-5", "C2H6O", "46.06844", "CCO", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N", "ethanol", 9),
    ("7631-99-4", "NNaO3", "84.9947", "[N+](=O)([O-])[O-].[Na+]", "VWDWKYIASSYTQR-UHFFFAOYSA-N", "sodium nitrate", 8),
    ("144-55-8", "CHNaO3", "84.00661", "C(=O)(O)[O-].[Na+]", "UIIMBOGNXHQVGW-UHFFFAOYSA-M", "sodium bicarbonate", 7),
    ("1309-37-1", "Fe2O3", "159.688", "O=[Fe]O[Fe]=O", "JEIPFZHSYJVQDO-UHFFFAOYSA-N", "iron(iii) oxide", 6),
    ("68-12-2", "C3H7NO", "73.0938", "CN(C)C=O", "ZMXDDKWLCZADIW-UHFFFAOYSA-N", "n,n-dimethylformamide", 6),
    ("56-41-7", "C3H7NO2", "89.0932", "C[C@@H](C(=O)O)N", "QNAYBMKLOCPYGJ-REOHCLBHSA-N", "l-alanine", 5),
    ("338-69-2", "C3H7NO2", "89.0932", "C[C@H](C(=O)O)N", "QNAYBMKLOCPYGJ-UWTATZPHSA-N", "d-alanine", 4),
    ("74-82-8", "CH4", "16.0425", "C", "VNWKTOKETHGBQD-UHFFFAOYSA-N", "methane", 5),
    ("10028-15-6", "O3", "47.997", "[O-][O+]=O", "CBENFWSGALASAD-UHFFFAOYSA-N", "ozone", 4),
    # None of the following may appear.
    ("64-17-6", "C3H8O", "60.09502", "CCCO", "AAAAAAAAAAAAAA-UHFFFAOYSA-N", "ethanol", 1),  # the name is taken
    ("7782-44-7", "O2", "31.998", "O=O", "MYMOFIZGZYHOMD-UHFFFAOYSA-N", "oxygen", 9),  # an element
    ("7789-20-0", "D2O", "20.0276", "[2H]O[2H]", "XLYOFNOQVPJJNP-ZSJDYOACSA-N", "deuterium oxide", 9),
    ("1-00-1", "CH4O", "32.04186", "[2H]CO", "BBBBBBBBBBBBBB-UHFFFAOYSA-N", "labelled alcohol", 9),
    ("1-00-2", "C2H4O2", "99.9", "CC(=O)O", "CCCCCCCCCCCCCC-UHFFFAOYSA-N", "wrongly weighed acid", 9),
    ("1-00-3", "C2H4O2", "", "CC(=O)O", "DDDDDDDDDDDDDD-UHFFFAOYSA-N", "unweighed acid", 9),
    ("1-00-4", "C6H10Xx", "1", "C", "EEEEEEEEEEEEEE-UHFFFAOYSA-N", "unknown element", 9),
    ("1-00-5", "C4H11N", "73.1368", "CCCCN", "FFFFFFFFFFFFFF-UHFFFAOYSA-N", "n-butylamine", 9),
    ("1-00-6", "C2H3N", "41.0519", "CC#N", "GGGGGGGGGGGGGG-UHFFFAOYSA-N", "1439-21-0", 9),
    ("1-00-7", "C2H3N", "41.0519", "CC#N", "HHHHHHHHHHHHHH-UHFFFAOYSA-N", "ethene, cyano-", 9),
    ("1-00-8", "C2H3N", "41.0519", "CC#N", "IIIIIIIIIIIIII-UHFFFAOYSA-N", "surecn12006", 9),
    ("1-00-9", "C2H3N", "41.0519", "CC#N", "JJJJJJJJJJJJJJ-UHFFFAOYSA-N", "<i>aceto</i>nitrile", 9),
    ("1-01-0", "C2H3N", "41.0519", "CC#N", "KKKKKKKKKKKKKK-UHFFFAOYSA-N", "a" * 40, 9),
    ("1-01-1", "C2H3N", "41.0519", "CC#N", "LLLLLLLLLLLLLL-UHFFFAOYSA-N", "", 9),
]
KNOWN = {"ethanol", "sodium nitrate", "sodium bicarbonate", "iron(III) oxide", "N,N-dimethylformamide", "L-alanine"}
KNOWN |= {"methane", "ozone"} | {row[2].lower() for row in ELEMENTS}
WIKIDATA = ["CAS\tTm\tTb", "64175\t159\t351.4", "74828\t90.7\t130", "1309371\tmolten\t", "7631994\t580\t"]
ORGANIC = ["CAS\tName\tTm\tTb", '64-17-5\t"Ethanol\t159.01\t351.39', "74-82-8\tMethane\t90.6\t111.6", "short"]
INORGANIC = ["CAS\tChemical\tTm\tTb", "7631-99-4\tSodium nitrate\t579.65\t", "1309-37-1\tIron oxide\t1838.15\t"]


@pytest.fixture
def source(tmp_path):
    """A folder with all members, as small as they can be."""
    folder = tmp_path / "source with space"
    for member in chemistry.MEMBERS:
        (folder / member).parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / chemistry.ELEMENTS)
    for table, columns, rows in [
        ("elements", ELEMENT, ELEMENTS),
        ("series", "id name", SERIES),
        ("oxidationstates", "atomic_number oxidation_state category", STATES),
        ("isotopes", "atomic_number mass_number abundance", ISOTOPES),
        ("phasetransitions", PHASE, PHASES),
    ]:  # fmt: skip
        names = columns.split()
        database.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", rows)
    database.commit()
    database.close()
    lines = ["", "too\tshort"]
    for cas, formula, mass, smiles, key, name, synonyms in COMPOUNDS:
        lines.append("\t".join(["1", cas, formula, mass, smiles, "InChI", key, "iupac", name, *["synonym"] * synonyms]))
    for member, text in [
        (chemistry.COMPOUNDS, lines),
        (chemistry.WIKIDATA, WIKIDATA),
        (chemistry.CRC[0], ORGANIC),
        (chemistry.CRC[1], INORGANIC),
    ]:
        (folder / member).write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


def responses(source, substance):
    """kind -> response, or the set of responses where there are several."""
    found = {}
    for question in questions(source):
        if question.substance == substance:
            found.setdefault(question.kind, []).append(question.response)
    return {kind: texts[0] if len(texts) == 1 else set(texts) for kind, texts in found.items()}


def test_only_sound_rows_become_substances(source):
    assert {question.substance for question in questions(source)} == KNOWN


def test_facts_of_an_element(source):
    assert responses(source, "iron") == {
        "symbol": "Fe",
        "element_of_symbol": "Iron",
        "atomic_number": "26",
        "element_of_number": "Iron",
        "period": "Period 4",
        "group": "Group 8",
        "block": "The d-block",
        "family": "The transition metals",
        "atomic_weight": "55.85",
        "stability": "Yes, at least one isotope is stable.",
        "main_isotope": "Iron-56",
        "neutrons": {"30 neutrons", "28 neutrons"},
        "configuration": "[Ar] 3d6 4s2",
        "electronegativity": "1.83 on the Pauling scale",
        "oxidation": "+2 and +3",
        "state": "A solid",
        "melting": "About 1538 °C",
        "boiling": "About 2861 °C",
    }


def test_unknown_and_disputed_facts_are_not_asked(source):
    assert responses(source, "carbon").keys().isdisjoint({"melting", "boiling", "discovery", "state", "oxidation"})
    assert responses(source, "lanthanum").keys().isdisjoint({"group", "block", "family", "state"})
    assert "group" not in (neodymium := responses(source, "neodymium"))
    assert "discovery" not in neodymium
    assert "atomic_weight" not in responses(source, "technetium")
    assert set(responses(source, "oganesson")) == {
        "symbol", "element_of_symbol", "atomic_number", "element_of_number", "period", "group", "block", "stability"
    }  # fmt: skip


def test_wording_of_elements(source):
    assert responses(source, "hydrogen")["neutrons"] == {"0 neutrons", "1 neutron"}
    assert responses(source, "sodium")["configuration"] == "[Ne] 3s1"
    assert responses(source, "sodium")["melting"] == "About 98 °C"
    assert responses(source, "oxygen")["state"] == "A gas"
    assert responses(source, "technetium")["stability"] == "No, all its isotopes are radioactive."


def test_facts_of_a_compound(source):
    ethanol = responses(source, "ethanol")
    assert ethanol.pop("atoms") in {"2 carbon atoms", "6 hydrogen atoms", "1 oxygen atom"}
    assert ethanol == {
        "formula": "C2H6O",
        "molar_mass": "46.07 g/mol",
        "elements": "Carbon, hydrogen and oxygen",
        "state": "A liquid",
        "melting": "About -114 °C",
        "boiling": "About 78 °C",
    }


@pytest.mark.parametrize(
    ("substance", "formula"),
    [
        ("sodium nitrate", "NaNO3"),
        ("sodium bicarbonate", "NaHCO3"),
        ("iron(III) oxide", "Fe2O3"),
        ("methane", "CH4"),
        ("ozone", "O3"),
        ("L-alanine", "C3H7NO2"),
        ("N,N-dimethylformamide", "C3H7NO"),
    ],
)
def test_formulas_are_written_as_chemists_do(source, substance, formula):
    assert responses(source, substance)["formula"] == formula


def test_no_formula_where_the_custom_is_unknown(source):
    table = chemistry._elements(source)
    assert chemistry._formula("FeN2O6", {"Fe": 1, "N": 2, "O": 6}, table) is None  # Fe(NO3)2
    assert chemistry._formula("FeH2O2", {"Fe": 1, "H": 2, "O": 2}, table) is None  # Fe(OH)2
    assert chemistry._formula("HOg", {"Og": 1, "H": 1}, table) is None  # no electronegativity


def test_temperatures_on_which_the_sources_disagree_are_not_asked(source):
    methane = responses(source, "methane")
    assert methane["melting"] == "About -182 °C"
    assert "boiling" not in methane  # 130 K and 111.6 K
    assert methane["state"] == "A gas"  # both are far below room temperature
    oxide = responses(source, "iron(III) oxide")
    assert "melting" not in oxide  # "molten" is no number
    assert oxide["state"] == "A solid"


@pytest.mark.parametrize(
    ("melts", "boils", "state"),
    [
        ([], [], None),
        ([], [280.0], "A gas"),
        ([300.0], [400.0], None),  # melts near room temperature
        ([200.0], [290.0], None),  # boils near it
        ([200.0], [], None),
        ([309.0], [], "A solid"),
        ([200.0, 340.0], [400.0], None),  # the sources differ
        ([200.0, 210.0], [400.0], "A liquid"),
    ],
)
def test_state(melts, boils, state):
    assert chemistry._state(melts, boils) == state


def test_questions_are_well_formed(source):
    found = questions(source)
    assert {question.kind for question in found} <= set(chemistry.TEMPLATES)
    assert len({question.id for question in found}) == len(found)
    assert len({question.prompt for question in found}) == len(found)
    for question in found:
        assert re.fullmatch(r"[0-9a-f]{16}", question.id)
        assert re.fullmatch(r"[A-Z][^{}\n]+[?.]", question.prompt)
        assert 0 < len(question.response) <= 60
        assert "None" not in question.prompt + question.response


def test_the_same_inputs_give_the_same_bytes(source, tmp_path, capsys):
    for name in ("one", "two"):
        main(["--source", str(source), "--out", str(tmp_path / name)])
    for side in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / "one" / side).read_bytes() == (tmp_path / "two" / side).read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "one" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert set(rows[0]) == {"prompt", "response", "id", "kind", "substance"}
    assert f"train: {len(rows)} questions" in capsys.readouterr().out


def test_another_substance_changes_no_other_question(source):
    before = set(questions(source))
    path = source / chemistry.COMPOUNDS
    row = ["1", "67-56-1", "CH4O", "32.04186", "CO", "InChI", "OKKJLVBELUTLKV-UHFFFAOYSA-N", "iupac", "methanol"]
    path.write_text("\t".join(row) + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    after = set(questions(source))
    assert before < after
    assert {question.substance for question in after - before} == {"methanol"}


def test_no_substance_is_on_both_sides(source):
    found = questions(source)
    train, test = split(found, held_out=0.4)
    assert sorted(train + test, key=found.index) == found
    assert train
    assert test
    assert {question.substance for question in train}.isdisjoint({question.substance for question in test})
    smaller = split(found, held_out=0.2)[1]
    assert set(smaller) <= set(test)  # a substance never moves back into training when the held-out share grows


@pytest.mark.parametrize("share", [0, 1, -0.1, 15])
def test_split_rejects_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=rf"held_out is {share}; it must lie between 0 and 1"):
        split([], held_out=share)


def test_a_missing_member_is_named_with_the_remedy(source):
    (source / chemistry.WIKIDATA).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks chemicals/Misc/wikidata_properties\.tsv; unpack the wheels"):
        questions(source)


@pytest.fixture(scope="module")
def manager():
    tasks = pytest.importorskip("lm_eval.tasks")
    folder = Path(chemistry.__file__).parent / "tasks" / "lethe_chemistry"
    return tasks.TaskManager(include_path=str(folder), include_defaults=False)


def load(manager):
    return manager.load(["lethe_chemistry"])["tasks"]["lethe_chemistry"]


def test_task_reads_the_held_out_questions(manager, source, tmp_path, monkeypatch):
    rows = [asdict(question) for question in questions(source)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setenv("LETHE_CHEMISTRY", str(tmp_path))
    task = load(manager)
    docs = list(task.test_docs())
    assert docs == rows
    assert task.doc_to_text(docs[0]) == docs[0]["prompt"]
    assert task.doc_to_target(docs[0]) == docs[0]["response"]


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("The d-block", " the d-block.\n", 1),
        ("Carbon, hydrogen and oxygen", "carbon hydrogen and oxygen", 1),
        ("+2 and +3", "+2 and +3.", 1),
        ("NaNO3", "**NaNO3**", 1),
        ("+3", "-3", 0),
        ("1.93 on the Pauling scale", "193 on the Pauling scale", 0),
        ("A gas", "", 0),
    ],
)
def test_task_scores_with_a_light_normalisation(manager, source, tmp_path, monkeypatch, gold, answer, score):
    row = {"prompt": "?", "response": gold, "id": "0", "kind": "k", "substance": "s"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setenv("LETHE_CHEMISTRY", str(tmp_path))
    task = load(manager)
    assert task.process_results(next(iter(task.test_docs())), [answer])["exact_match"] == score


def test_task_without_its_data_says_what_to_do(manager, tmp_path, monkeypatch):
    monkeypatch.delenv("LETHE_CHEMISTRY", raising=False)
    with pytest.raises(FileNotFoundError, match=r"LETHE_CHEMISTRY is not set.*python -m fixtures\.chemistry"):
        load(manager)
    monkeypatch.setenv("LETHE_CHEMISTRY", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"holds no test\.jsonl: write it with"):
        load(manager)
    (tmp_path / "test.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"test\.jsonl is empty"):
        load(manager)
