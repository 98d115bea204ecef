"""The blind head-to-head: editors choose between two answers and do not know which model wrote which.

    prompts     what is asked: a JSONL file of {"prompt"}
    answers     both models' texts, through the same engine and store as every other score
    design      who sees what, in which order and on which side; made from a secret
    key         the secret and the sides, sealed; stays with the gate
    page        one self-contained HTML file for each editor, made without the key
    votes       what editors send back, checked against the key
    judge       votes -> win rate, its bounds and the verdict
    results     the verdict in a terminal and in files

python -m harness.ballot make …, then python -m harness.ballot judge …
"""
