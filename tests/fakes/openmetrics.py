"""A strict reader of the OpenMetrics text format, written from its ABNF and not from our writer."""

import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
STRING = r'"(?:[^"\\\n]|\\["\\n])*"'
NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|[iI]nf|NaN|\.[0-9]+)"
META = re.compile(rf"# (TYPE|UNIT|HELP) ({NAME}) (.*)", re.DOTALL)
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL}={STRING})(?:,{LABEL}={STRING})*)\}})? ({NUMBER})")
PAIR = re.compile(rf"({LABEL})=({STRING})")
SUFFIXES = {"counter": {"_total"}, "gauge": {""}, "info": {"_info"}}


class Family:
    def __init__(self, name):
        self.name = name
        self.kind = self.unit = self.help = None
        self.samples = {}


def unescape(text):
    assert re.fullmatch(r'(?:[^"\\\n]|\\["\\n])*', text), text
    return re.sub(r'\\(["\\n])', lambda m: {"n": "\n"}.get(m[1], m[1]), text)


def parse(text):
    """Return {name: Family}; AssertionError for the least departure from the format."""
    assert text.endswith("# EOF\n")
    assert "\r" not in text
    families, current = {}, None
    lines = text.removesuffix("# EOF\n").split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert line, "an empty line"
        if line.startswith("#"):
            found = META.fullmatch(line)
            assert found, line
            what, name, value = found.groups()
            if current is None or current.name != name:
                assert name not in families, f"{name} is not in one piece"
                current = families[name] = Family(name)
            assert not current.samples, "metadata after samples"
            attribute = {"TYPE": "kind", "UNIT": "unit", "HELP": "help"}[what]
            assert getattr(current, attribute) is None, f"{what} twice"
            setattr(current, attribute, unescape(value) if what == "HELP" else value)
            if what == "TYPE":
                assert value in SUFFIXES, value
            if what == "UNIT":
                assert name.endswith(f"_{value}"), name
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        name, labels, number = found.groups()
        assert current is not None
        assert current.kind is not None
        assert name.removeprefix(current.name) in SUFFIXES[current.kind], name
        pairs = [(k, unescape(v[1:-1])) for k, v in PAIR.findall(labels or "")]
        assert len(dict(pairs)) == len(pairs), "a label twice"
        key = tuple(sorted(pairs))
        assert key not in current.samples, f"{line} twice"
        value = float(number)
        if current.kind == "counter":
            assert value >= 0, line
        if current.kind == "info":
            assert value == 1, line
        current.samples[key] = value
    names = [n + s for n, f in families.items() for s in SUFFIXES[f.kind]]
    assert len(set(names)) == len(names), "two families with one sample name"
    return families


def value(families, name, **labels):
    return families[name].samples[tuple(sorted(labels.items()))]
