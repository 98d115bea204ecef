"""The task lethe_instructions: its checks on passes and near misses, its 120 prompts, and its way through lm-eval."""

import importlib.util
import itertools
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "fixtures" / "tasks" / "lethe_instructions"


def _load_checks():
    """By file path, as lm-eval does: the folder is a task, not a package."""
    spec = importlib.util.spec_from_file_location("lethe_instructions_checks", FOLDER / "checks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checks = _load_checks()
ROWS = checks.read_rows(checks.PROMPTS)
BY_ID = {row["id"]: row for row in ROWS}

TABLE = "| Day | Task |\n|---|:---|\n| Monday | Dust |\n| Tuesday | Mop |"

# (kind, args, responses that pass, near misses that fail)
EXAMPLES = [
    ("word_count", {"at_most": 3}, ["One two three.", "- one\n- two - three"], ["One two three four", "a b c d"]),
    ("word_count", {"at_least": 3}, ["It's well-known here"], ["two words", "1. two words", "- - - -"]),
    ("sentence_count", {"at_least": 2, "at_most": 2}, ["Hi. Bye", 'He said "Go!" Then he left.'], ["Hi.", "A. B. C."]),
    (
        "sentence_count",
        {"at_least": 1, "at_most": 1},
        ["Dr. Lee eats at 5 p.m. daily, e.g. soup.", "Pi is 3.14."],
        ["A? B"],
    ),
    ("line_count", {"at_least": 2, "at_most": 2}, ["a\nb", "a\n\n \nb\n"], ["a", "a\nb\nc"]),
    ("paragraph_count", {"at_least": 2, "at_most": 2}, ["a\nb\n\nc", "a\n \n\nb"], ["a\nb", "a\n\nb\n\nc"]),
    ("character_count", {"at_most": 5}, ["hello", " hello\n"], ["hello!"]),
    ("number_count", {"at_least": 2, "at_most": 2}, ["3 of 4.5", "1. from 7 to 9"], ["only 3", "1 2 3", "A4 and B5"]),
    ("mark_count", {"mark": "?", "at_least": 1, "at_most": 1}, ["Why? Yes."], ["Yes.", "Why? How?"]),
    ("phrase_count", {"phrase": "cat", "at_least": 2}, ["Cat, cat!"], ["cat cats", "category cat"]),
    ("phrase_count", {"phrase": "cat", "at_least": 1, "at_most": 1}, ["A cat."], ["A cat and a Cat.", "dog"]),
    (
        "hashtag_count",
        {"at_least": 2, "at_most": 2},
        ["#one and #two", "# Title\n#a #b"],
        ["#one", "#a #b #c", "# a # b"],
    ),
    ("words_per_line", {"at_least": 2, "at_most": 2}, ["a b\nc d", "1. a b"], ["a b\nc", "a b\nc d e"]),
    ("words_per_sentence", {"at_most": 3}, ["One two three. Four five."], ["One. Two three four five."]),
    ("letters_per_word", {"at_most": 4}, ["Snow lies here.", "it's"], ["Snows lie", "ice-cap"]),
    (
        "includes",
        {"phrases": ["river", "old mill"]},
        ["The RIVER by the old mill."],
        ["rivers, old mill", "river mill old"],
    ),
    ("excludes", {"phrases": ["sorry"]}, ["No, thanks.", "sorrys"], ["Sorry!", "I am sorry."]),
    ("excludes_characters", {"characters": "e,"}, ["Rain falls."], ["Water.", "A, b", "E", "..."]),
    ("distinct_words", {"at_least": 3}, ["Red, blue; green."], ["red blue Red", "one two", "it, it two three"]),
    (
        "bullet_list",
        {"at_least": 2, "at_most": 2},
        ["Here:\n- a\n* b"],
        ["- a", "- a\n- b\n- c", "1. a\n2. b", "-a\n-b"],
    ),
    (
        "numbered_list",
        {"at_least": 2},
        ["1. a\n2) b", "So:\n1. a\n\n2. b"],
        ["1. a", "1. a\n3. b", "1. a\n2. b\n1. c", "- a\n- b"],
    ),
    (
        "markdown_table",
        {"columns": ["Day", "Task"], "rows": 2},
        [TABLE, f"Here it is:\n\n{TABLE}\n\nEnjoy.", "day | task\n--- | ---\nMon | a\nTue | b"],
        [
            TABLE.rsplit("\n", 1)[0],
            TABLE.replace("|---|:---|\n", ""),
            TABLE.replace("Task", "Job"),
            TABLE + "\n| Friday | |",
        ],
    ),
    (
        "key_value_lines",
        {"keys": ["Name", "City"]},
        ["Name: Bo\nCity: Rome", "Name: a: b\n\nCity: c"],
        ["City: Rome\nName: Bo", "Name: Bo", "Name: Bo\nCity:", "Here:\nName: Bo\nCity: Rome", "name: Bo\ncity: Rome"],
    ),
    (
        "csv_row",
        {"fields": 3},
        ["Ada,36,London", '"a, b", c, d'],
        ["Ada,36", "a,b,c,d", "a,,c", "a,b,c\nd,e,f", "a, b\n, c"],
    ),
    (
        "code_block",
        {"language": "bash"},
        ["```bash\nls -l\n```"],
        [
            "ls -l",
            "```\nls\n```",
            "```python\nls\n```",
            "Use:\n```bash\nls\n```",
            "```bash\n\n```",
            "```bash\nls\n```\n```bash\nls\n```",
        ],
    ),
    (
        "headings",
        {"titles": ["## A", "## B"]},
        ["## A\ntext\n\n## B\ntext"],
        ["## B\nx\n## A\nx", "## A\n## B\nx", "## A\nx\n## B", "## A\nx\n## B\nx\n## C\nx", "# A\nx\n# B\nx"],
    ),
    (
        "parts",
        {"separator": "---", "count": 2},
        ["a\n---\nb", "a\n\n --- \n\nb"],
        ["a --- b", "a\n---", "a\n---\nb\n---\nc", "a"],
    ),
    (
        "sorted_lines",
        {"order": "ascending"},
        ["- apple\n- Fig\n- pear"],
        ["fig\napple", "fig", "fig\nfig", "Here:\nfig\npear\napple"],
    ),
    ("sorted_lines", {"order": "descending"}, ["1. pear\n2. fig"], ["1. fig\n2. pear"]),
    (
        "sorted_numbers",
        {"order": "ascending", "count": 3},
        ["3 7.5 19", "1. 3\n2. 7\n3. 9"],
        ["3 19 7", "3 7", "3 3 7", "1 2 3 4"],
    ),
    ("sorted_numbers", {"order": "descending", "count": 3}, ["[9, 7, -1]"], ["[1, 7, 9]"]),
    (
        "mentioned_in_order",
        {"phrases": ["read", "rest"]},
        ["Read, then rest, then read."],
        ["Rest and read.", "Read.", "Ready, rest"],
    ),
    (
        "lines_are",
        {"lines": ["8", "12"]},
        ["8\n12", "- 8\n- 12.", "1. 8\n2. 12"],
        ["12\n8", "8", "8 12", "Sure:\n8\n12"],
    ),
    (
        "answers_only",
        {"choices": ["yes", "no"]},
        ["Yes", "no.", '"Yes!"'],
        ["Yes, it is.", "yes no", "maybe", "Answer: yes"],
    ),
    ("matches_pattern", {"pattern": r"\d+"}, ["45", " 45\n"], ["45 euros", "45.", "four"]),
    (
        "starts_with",
        {"text": "Hi Sam,"},
        ["Hi Sam,\n\nsee you.", "Hi  Sam, hello"],
        ["Subject: x\nHi Sam, hello", "hi Sam, hello", "Hi Sam,"],
    ),
    (
        "ends_with",
        {"text": "Thanks, Jo"},
        ["Pay up.\nThanks, Jo", "Pay.\n\nThanks,\nJo"],
        ["Thanks, Jo.", "Thanks, Jo\nPS: now", "Pay. thanks, jo", "Thanks, Jo"],
    ),
    ("ends_with", {"text": "?"}, ["Do you like it?"], ["I like it.", "?", "Like it? Yes"]),
    (
        "repeats_then_answers",
        {"text": "Why?"},
        ["Why? Because.", '"Why?"\nBecause.'],
        ["Why?", "Because. Why?", "why? Because.", "Why? ..."],
    ),
    ("starts_with", {"text": "Yes"}, ["Yes, do.", "Yes. Do."], ["Yes", "Yesterday it rained.", "Oh yes, do."]),
    ("each_line_starts_with", {"text": "- "}, ["- a\n- b"], ["a\n- b", "- a\n-b", "List:\n- a"]),
    ("each_line_ends_with", {"text": "!"}, ["a!\n\nb!"], ["a!\nb", "a!\n!"]),
    (
        "wrapped",
        {"opening": "[", "closing": "]"},
        ["[Lost]"],
        ["Lost", "[Lost] now", "x [Lost]", "[]", "[ . ]", "[a] [b]"],
    ),
    ("wrapped", {"opening": '"', "closing": '"'}, ['"Ride on"', "“Ride on”"], ['"Ride', '"', '"Ride" on "and"']),
    (
        "acrostic",
        {"word": "SEA"},
        ["Salt\nEbb\nAir", "salt\n\nebb\nair"],
        ["Salt\nEbb", "Salt\nAir\nEbb", "The sea\nSalt\nEbb\nAir"],
    ),
    ("letter_case", {"style": "lower"}, ["all small, 3 of them"], ["All small", "123"]),
    ("letter_case", {"style": "upper"}, ["ALL BIG, 3 OF THEM"], ["ALL BiG", "123"]),
    (
        "letter_case",
        {"style": "title"},
        ["<<Salt And Sea>>", "The 7 Wonders"],
        ["Salt and Sea", "salt", "Salt-Lake city"],
    ),
    (
        "language",
        {"code": "fr"},
        ["On lit des livres et on y travaille au calme."],
        ["We read books and work in peace there.", "..."],
    ),
    (
        "language",
        {"code": "de"},
        ["Im Winter schneit es oft und die Tage sind kurz."],
        ["In winter it often snows and days are short."],
    ),
    (
        "language",
        {"code": "es"},
        ["El gato duerme todo el día en la ventana."],
        ["O gato dorme o dia todo na janela.", "Le chat dort toute la nuit.", "lol"],
    ),
    (
        "language",
        {"code": "en"},
        ["Cats sleep a lot because hunting costs them energy."],
        ["Les chats dorment parce que la chasse fatigue."],
    ),
    (
        "json_object",
        {"types": {"name": "string", "age": "number"}},
        ['{"name": "Bo", "age": 3}', '```json\n{"age": 3.5, "name": "Bo"}\n```'],
        [
            '{"name": "Bo"}',
            '{"name": "Bo", "age": "3"}',
            '{"name": "Bo", "age": true}',
            '{"name": "Bo", "age": 3, "x": 1}',
            'Here: {"name": "Bo", "age": 3}',
            "{'name': 'Bo', 'age': 3}",
            '["name", "age"]',
        ],
    ),
    (
        "json_object",
        {"types": {"on": "boolean", "in": "list"}},
        ['{"on": true, "in": []}'],
        ['{"on": 1, "in": []}', '{"on": true, "in": {}}'],
    ),
    (
        "json_array",
        {"of": "string", "at_least": 2, "at_most": 2},
        ['["a", "b"]'],
        ['["a"]', '["a", 2]', '["a", "b", "c"]', '{"a": "b"}', "a, b"],
    ),
]

# One answer a person would write, for prompts of every kind: they can be satisfied, all instructions at once.
ANSWERS = {
    "recipe-001": "Whisk all of this and fry it:\n- flour\n- milk\n- eggs\n- a pinch of salt",
    "recipe-002": "1. Boil water.\n2. Pour it over the tea bag.\n3. Wait four minutes.",
    "recipe-004": "- carrots\n- leeks\n- potatoes\n- celery\n- onions\n- parsley",
    "recipe-006": "Apple\nBanana\nKiwi\nMango\nPear",
    "recipe-007": "## Ingredients\nLemons, sugar, water.\n\n## Steps\nSqueeze, stir and cool.",
    "recipe-008": (
        "| Soup | Main ingredient | Minutes |\n"
        "|---|---|---|\n"
        "| Minestrone | Beans | 40 |\n"
        "| Gazpacho | Tomato | 15 |\n"
        "| Ramen | Noodles | 30 |"
    ),
    "recipe-010": '{"name": "Margherita", "toppings": ["tomato", "basil"], "price": 9.5}',
    "email-003": (
        "Thank you for the kind invitation. I have to work that evening, so I cannot come. Have a lovely party!"
    ),
    "email-004": "Hello all, the rent is due on Monday. Please send me your share by then.\n\nThanks, Jo",
    "email-005": "Hello, the tap in our kitchen drips. Could you come this week? Someone is in the kitchen all day.",
    "email-006": (
        "I am away until Monday and will read your message then.\n\nIf it is urgent, please call the front desk."
    ),
    "email-008": "DEAR TEAM, JOIN US FOR A PICNIC IN THE PARK THIS SATURDAY AT NOON.",
    "email-009": "[Lost: a black umbrella in room four]",
    "email-010": "Name: Ida Brook\nJob: Carpenter\nCity: Leeds\nPhone: 555 0134",
    "name-003": '"Two wheels, no worries."',
    "name-005": "Ash, Misty, Pebble",
    "name-006": (
        "Drizzle opens with one finger and never turns inside out. With Drizzle in your bag, rain is only weather."
    ),
    "name-007": "Sure: I would call it Dusty, because dust is what it eats.",
    "name-008": "Fern & Cup!\nThe Green Spoon!\nUnder the Pear Tree!\nSunny Corner!",
    "name-009": "How about the Early Larks. Do you like it?",
    "name-010": "<<The Long Dry Road To Nowhere>>",
    "plan-002": "Day 1: Swim and rest.\nDay 2: Walk to the lighthouse.\nDay 3: Buy postcards and go home.",
    "plan-005": (
        "Write down what you spend in a week, and look for the small things that you would not miss. "
        "Move a fixed sum to another account on the day you are paid, so that you never see it. Cook at "
        "home more often, and carry water with you."
    ),
    "plan-006": "1. Rent a van\n2. Pack the books\n3. Wrap the plates\n4. Clean the rooms\n5. Hand over the keys",
    "plan-007": "For half an hour, read the chapter. Then write a page from memory, and rest for the last ten minutes.",
    "plan-008": "10\n25\n50\n100\n200",
    "plan-010": (
        "Stay in, bake bread and watch an old film.\n\n---\n\nTake a blanket to the park and look at the stars."
    ),
    "explain-003": "A lighthouse shows ships where the coast is!",
    "explain-005": "What is a library for? It lends books to everyone.",
    "explain-006": (
        "The sun warms the sea, and some of the water rises as vapour.\n\n"
        "High up it cools and becomes a cloud.\n\n"
        "When the drops grow heavy, they fall."
    ),
    "explain-008": (
        "Glass never wears out. It can be melted again and again. That takes less heat than new glass. "
        "It also keeps sand in the ground."
    ),
    "explain-010": "An echo is sound that comes back from a wall. That is all.",
    "rewrite-001": "THE TRAIN LEAVES AT NOON",
    "rewrite-006": "I have two dogs and three cats.",
    "rewrite-007": "Birds\nfly\nsouth\nin\nwinter",
    "rewrite-010": "A Short Walk In The Old Town",
    "extract-002": '{"name": "Omar", "age": 34, "city": "Cairo"}',
    "extract-004": "45",
    "extract-006": "The mayor opened the library.",
    "extract-007": "Ana,Luis,Petra",
    "extract-009": '["goat", "mule", "hen"]',
    "extract-010": "A traveller should take the ferry.",
    "sort-001": "apple\nfig\nmango\npear",
    "sort-002": "The largest is 42 and the smallest is 3.",
    "sort-003": "1. Wanda\n2. Nadia\n3. Carla\n4. Boris",
    "sort-005": (
        "A mouse fits in a hand and comes first. Then comes the horse. A whale is larger than a house and comes last."
    ),
    "sort-006": "- Monday\n- Tuesday\n- Thursday\n- Friday",
    "sort-007": "[90, 61, 15, 4]",
    "sort-008": "## Fruit\n- plum\n- cherry\n- grape\n\n## Tools\n- hammer\n- saw\n- drill",
    "convert-002": "seventeen",
    "convert-003": "On the fourth of March I might plant the first peas.",
    "convert-004": "They say half past two in the afternoon.",
    "convert-008": "```python\ndef double(x):\n    return 2 * x\n```",
    "convert-010": "Multiply it by 1.8 and add 32.",
    "tell-004": (
        "It falls all night without a sound,\n"
        "it hides the road, it hides the hill,\n"
        "it lays its linen on the ground,\n"
        "and then the world is white and still."
    ),
    "tell-005": (
        "Water folds and water falls,\n"
        "And gulls go crying to the land,\n"
        "Voices echo off the walls,\n"
        "Ebbing out across the sand."
    ),
    "tell-006": (
        "The engine hums softly\n"
        "Windows fill with fields\n"
        "A whistle cuts fog\n"
        "Stations pass like songs\n"
        "We arrive by dusk"
    ),
    "tell-007": "Our little library opens on Friday! Bring a friend and borrow a book. #reading #neighbours",
    "tell-008": "Under striped awnings, loud sellers offer ripe melons while children chase a dog past baskets.",
    "tell-009": "The peak is cold and white. No tree can live on it.",
    "tell-010": "My face has no eyes, yet people look at it all day. What am I?",
    "tell-011": "Cat: Come out and play.\nMouse: Not while you look so hungry.\nCat: I only want to talk.",
    "tell-012": "It was raining when the letter came. She read it twice and smiled. The end.",
    "tell-014": "Good luck with the exam! You know more than you think.",
    "tell-016": "I walked 300 km in them over 5 months, and the soles still grip.",
    "language-001": "On y emprunte des livres et des films. On peut aussi y travailler au calme avec des amis.",
    "language-005": "Im Winter sind die Tage kurz und die Nächte lang. Viele Kinder freuen sich auf den ersten Schnee.",
    "language-006": "Mi gato se llama Luna. Duerme todo el día en la ventana. Por la noche corre por toda la casa.",
    "language-008": (
        "- Para leer libros y revistas.\n- Para estudiar en silencio.\n- Para aprender cosas nuevas con otras personas."
    ),
    "decide-002": "TEA",
    "decide-003": "No, it is shorter. A week has seven days.",
    "decide-005": "7",
    "decide-006": "Yes, because wet clothes make you cold.",
    "decide-007": "<answer>a brick</answer>",
}


def _cases(of: int):
    return [
        pytest.param(kind, args, example[of], id=f"{kind}-{number}")
        for number, (kind, args, *example) in enumerate(EXAMPLES)
    ]


@pytest.mark.parametrize(("kind", "args", "responses"), _cases(0))
def test_passes(kind, args, responses):
    for response in responses:
        assert checks.CHECKS[kind](response, **args), response


@pytest.mark.parametrize(("kind", "args", "responses"), _cases(1))
def test_near_misses_fail(kind, args, responses):
    for response in responses:
        assert not checks.CHECKS[kind](response, **args), response


def test_every_kind_has_examples_and_is_used_by_a_prompt():
    used = {instruction["kind"] for row in ROWS for instruction in row["instructions"]}
    assert {kind for kind, *_ in EXAMPLES} == set(checks.CHECKS) == used


@pytest.mark.parametrize("empty", ["", " \n\t ", "\u00a0"])
def test_an_empty_answer_follows_nothing(empty):
    for row in ROWS:
        assert not any(checks.follows(empty, row["instructions"])), row["id"]


@pytest.mark.parametrize("looping", ["[" * 9000, "1" * 5000 + ". a", "- \n" * 3000, "a\rb, c", "\0", "**", "#" * 500])
def test_a_degenerate_answer_is_scored_without_an_error(looping):
    for row in ROWS:
        scores = checks.process_results({"instructions": json.dumps(row["instructions"])}, [looping])
        assert len(scores["inst_level_strict_acc"]) == len(row["instructions"])


def test_hardly_a_prompt_is_met_by_one_word():
    """Bounds from above are paired with a word to use or a bound from below, so that silence in a word earns little."""
    met = [row["id"] for row in ROWS if all(checks.follows("lol", row["instructions"]))]
    assert met == ["name-001", "name-004", "convert-002"]


def test_there_are_120_prompts_of_one_to_three_instructions_with_unique_ids():
    assert len(ROWS) == len(BY_ID) == 120
    assert {len(row["instructions"]) for row in ROWS} == {1, 2, 3}
    for row in ROWS:
        kinds = [instruction["kind"] for instruction in row["instructions"]]
        assert len(kinds) == len(set(kinds)), row["id"]


def test_no_two_prompts_are_alike():
    words = {row["id"]: set(row["prompt"].casefold().split()) for row in ROWS}
    alike = {(a, b): len(words[a] & words[b]) / len(words[a] | words[b]) for a, b in itertools.combinations(words, 2)}
    assert max(alike.values()) < 0.6, max(alike, key=alike.get)


@pytest.mark.parametrize("row_id", ANSWERS)
def test_a_written_answer_follows_its_prompt(row_id):
    instructions = BY_ID[row_id]["instructions"]
    assert all(checks.follows(ANSWERS[row_id], instructions)), (ANSWERS[row_id], instructions)


def test_the_written_answers_cover_every_kind():
    covered = {instruction["kind"] for row_id in ANSWERS for instruction in BY_ID[row_id]["instructions"]}
    assert covered == set(checks.CHECKS)
    assert len(ANSWERS) >= 30


@pytest.mark.parametrize(
    ("instruction", "message"),
    [
        ({"kind": "word_cout", "args": {"at_most": 3}}, "unknown kind 'word_cout'; choose from acrostic, "),
        ({"kind": "word_count"}, "must have the keys 'kind' and 'args'"),
        ({"kind": "word_count", "args": {"most": 3}}, "unexpected keyword argument 'most'; its signature is"),
        ({"kind": "word_count", "args": {"at_most": "3"}}, "argument at_most = '3' must be int"),
        ({"kind": "word_count", "args": {"at_most": True}}, "argument at_most = True must be int"),
        ({"kind": "word_count", "args": {}}, "give at_least, at_most or both"),
        ({"kind": "word_count", "args": {"at_least": 5, "at_most": 4}}, "must not exceed at_most = 4"),
        ({"kind": "word_count", "args": {"at_most": 0}}, "must not exceed at_most = 0"),
        ({"kind": "acrostic", "args": {}}, "missing a required argument: 'word'"),
        ({"kind": "includes", "args": {"phrases": []}}, r"argument phrases = \[\] must be list"),
        ({"kind": "includes", "args": {"phrases": "cat"}}, "argument phrases = 'cat' must be list"),
        ({"kind": "includes", "args": {"phrases": ["cat", ""]}}, "must be .*not empty"),
        ({"kind": "language", "args": {"code": "it"}}, "argument code = 'it' must be Literal"),
        ({"kind": "json_object", "args": {"types": {"age": "int"}}}, "argument types = {'age': 'int'} must be dict"),
        ({"kind": "matches_pattern", "args": {"pattern": "("}}, "kind 'matches_pattern': .*unterminated"),
    ],
)
def test_a_bad_instruction_is_an_error_when_the_documents_load(tmp_path, instruction, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"id": "plan-001", "prompt": "Plan a day.", "instructions": [instruction]}) + "\n")
    with pytest.raises(ValueError, match=rf"prompts.jsonl, id 'plan-001': .*{message}"):
        checks.read_rows(path)


def test_a_bad_row_is_an_error_when_the_documents_load(tmp_path):
    path = tmp_path / "prompts.jsonl"
    row = {"id": "plan-001", "prompt": "Plan.", "instructions": [{"kind": "word_count", "args": {"at_most": 9}}]}
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    with pytest.raises(ValueError, match="id 'plan-001': appears twice"):
        checks.read_rows(path)
    path.write_text(json.dumps({**row, "instructions": []}))
    with pytest.raises(ValueError, match="none empty"):
        checks.read_rows(path)


def test_loose_forgives_a_preamble_a_closing_line_and_asterisks():
    instructions = [
        {"kind": "answers_only", "args": {"choices": ["yes"]}},
        {"kind": "word_count", "args": {"at_most": 1}},
    ]
    doc = {"instructions": json.dumps(instructions)}
    for response in ["Sure!\nyes", "yes\nHope this helps!", "Sure!\n**yes**\nAnything else?"]:
        scores = checks.process_results(doc, [response])
        assert (scores["prompt_level_strict_acc"], scores["prompt_level_loose_acc"]) == (False, True), response
    assert checks.process_results(doc, ["yes or no"]) == {
        "prompt_level_strict_acc": False,
        "inst_level_strict_acc": [False, False],
        "prompt_level_loose_acc": False,
        "inst_level_loose_acc": [False, False],
    }


def test_every_instruction_weighs_the_same_in_the_aggregate():
    assert checks.flat_mean([[True], [True, False, False]]) == 0.5


def test_lm_eval_loads_and_scores_the_task_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(FOLDER.parent), include_defaults=False)
    task = manager.load(["lethe_instructions"])["tasks"]["lethe_instructions"]
    docs = list(task.test_docs())
    assert [(doc["id"], doc["prompt"]) for doc in docs] == [(row["id"], row["prompt"]) for row in ROWS]
    assert [json.loads(doc["instructions"]) for doc in docs] == [row["instructions"] for row in ROWS]
    assert task.doc_to_text(docs[0]) == ROWS[0]["prompt"]
    assert task.config.generation_kwargs == {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": 256}
    scores = task.process_results(docs[0], [ANSWERS[docs[0]["id"]]])
    assert scores["prompt_level_strict_acc"] is True
    assert set(scores) == set(task.aggregation())
    assert task.aggregation()["inst_level_strict_acc"]([[True], [False, False, False]]) == 0.25
