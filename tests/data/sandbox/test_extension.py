# ruff: noqa: E501 - one program, one line
"""Answers that are plain values with something added: both must work, and neither may be forged."""

import collections
import enum

import numpy
import pytest

from data.execution import ExecutionResult, execute
from data.sandbox.extension import added
from tests.data.sandbox.benign import body_of

LRU = "from collections import OrderedDict\nclass f(OrderedDict):\n    def __init__(s, size): super().__init__(); s.size = size\n    def get(s, k):\n        if k not in s: return -1\n        s.move_to_end(k); return s[k]\n    def put(s, k, v):\n        s[k] = v; s.move_to_end(k)\n        if len(s) > s.size: s.popitem(last=False)\n"
STACK = "class f(list):\n    def push(s, x): s.append(x)\n    def peek(s): return s[-1]\n    def __repr__(s): return f'Stack{list(s)}'\n"
POINT = "from typing import NamedTuple\nclass P(NamedTuple):\n    x: int\n    y: int = 0\n    @property\n    def area(s): return s.x * s.y\n    def moved(s, d): return s._replace(x=s.x + d)\n    def __add__(s, o): return P(s.x + o.x, s.y + o.y)\ndef f(x, y): return P(x, y)\n"
RIGHT = {
    "an ordered dictionary with methods": (LRU, "c=f(2); c.put(1,1); c.put(2,2)\nassert c.get(1)==1\nc.put(3,3)\nassert c.get(2)==-1 and len(c)==2 and list(c)==[1,3]\nassert c.size==2 and isinstance(c, dict) and isinstance(c, f)\nc[9]=9\nassert c.get(9)==9"),
    "a list with methods": (STACK, "s=f()\ns.push(1); s.push(2)\nassert s.peek()==2 and s==[1,2] and s.pop()==2 and s.peek()==1\ns.append(7)\nassert s.peek()==7 and sorted(s)==[1,7] and repr(s)=='Stack[1, 7]'\nassert type(s).__name__=='f' and s+[3]==[1,7,3]"),
    "a dictionary with attributes": ("class D(dict):\n    __getattr__=dict.__getitem__\ndef f(): return D(a=1)", "d=f()\nassert d.a==1 and d=={'a':1}"),
    "a dictionary with what is missing": ("class D(dict):\n    def __missing__(s, k): s[k]=k*2; return s[k]\ndef f(): return D()", "d=f()\nassert d['ab']=='abab' and d=={'ab':'abab'} and d.get('x') is None"),
    "a named tuple with properties": (POINT, "p=f(2,3)\nassert p==(2,3) and p.area==6 and p.moved(1)==(3,3) and p.moved(1).area==9\nx,y=p\nassert (p+f(1,1)).area==12 and p+(4,)==(2,3,4) and p._asdict()=={'x':2,'y':3}"),
    "an integer of an enumeration": ("from enum import IntEnum\nclass C(IntEnum):\n    A=1\n    B=2\ndef f(x): return C(x)", "assert f(1)==1 and f(2).name=='B' and f(2)>f(1) and f(1) is f(1) and f(1) is C.A and [10,20][f(1)]==20"),
    "a text of an enumeration": ("from enum import Enum\nclass C(str, Enum):\n    A='a'\n    def up(s): return s.upper()\ndef f(): return C.A", "assert f()=='a' and f().value=='a' and f().up()=='A' and f() is C.A and {'a': 1}[f()]==1"),
    "a text with methods": ("class S(str):\n    def shout(s): return s.upper()+'!'\ndef f(x): return S(x)", "s=f('ab')\nassert s=='ab' and s.shout()=='AB!' and s+'c'=='abc' and len(s)==2"),
    "many of them": (POINT + "def g(n): return [P(i, 1) for i in range(n)]\nf = g", "r=f(20000)\nassert r[5].area==5 and r[-1]==(19999,1)"),
    "given back": (STACK + "def f(s=None):\n    if s is None: return S()\n    return type(s).__name__, s.peek()\nclass S(list):\n    def peek(s): return s[-1]\n", "s=f()\ns.append(4)\nassert f(s)==('S',4)"),
    "copied": (STACK, "import copy\ns=f(); s.push(1)\nt=copy.copy(s); u=copy.deepcopy(s)\nt.push(2)\nassert s==[1] and t==[1,2] and t.peek()==2 and u==[1] and u.peek()==1"),
}  # fmt: skip
METHODS = "    def extra(s): return 1\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n    def __lt__(s, o): return True\n    def __contains__(s, o): return True\n    def __len__(s): return 3\n    def __iter__(s): return iter(LAST)\n    def count(s, x): return 1\n    def index(s, x): LAST.append(x); return 0\n    def remove(s, x): s.clear()\n    def startswith(s, x): return True\n    def issubset(s, x): return True\n    issuperset = isdisjoint = issubset\n    def symmetric_difference(s, x): return set()\n    __hash__ = object.__hash__\nLAST = []\ndef f(): return A()\n"
FORGED = {
    "a list that equals all": ("class A(list):\n" + METHODS, "assert f()==[1,2,3]"),
    "a list that contains all": ("class A(list):\n" + METHODS, "r=f()\nassert 7 in r"),
    "a list that counts all": ("class A(list):\n" + METHODS, "assert f().count(7)==1"),
    "a list that all can be taken from": ("class A(list):\n" + METHODS, "r=f()\nr.append(0)\nfor x in [1,2]: r.remove(x)\nassert len(r)==0"),
    "a list whose items come later": ("class A(list):\n" + METHODS, "r=f()\ntry: r.index(5)\nexcept ValueError: pass\nassert sorted(r)==[5]"),
    "a dictionary that equals all": ("class A(dict):\n" + METHODS, "assert f()=={1:2}"),
    "a set within all": ("class A(set):\n" + METHODS, "r=f()\nassert not r.symmetric_difference({1,2})"),
    "a set around all": ("class A(set):\n" + METHODS, "assert f().issuperset({1,2})"),
    "a text that begins with all": ("class A(str):\n" + METHODS, "assert f().startswith('xy')"),
    "a number that equals all": ("class A(int):\n" + METHODS, "assert f()==42"),
    "a number without difference": ("class A(float):\n    def __sub__(s, o): return 0.0\n    __rsub__=__sub__\n" + METHODS, "assert abs(f()-2.5)<1e-9"),
    "a sum that is all": ("class A(int):\n    def __add__(s, o): return A()\n    __radd__=__add__\n" + METHODS, "assert sum([f(), 3])==45"),
    "a pair that equals all": ("from typing import NamedTuple\nclass A(NamedTuple):\n    x: int = 0\n" + METHODS.split("    def __lt__")[0] + "def f(): return A()\n", "assert f()==(5,)"),
}  # fmt: skip


def judged(source: str, test: str) -> ExecutionResult:
    return execute({"prompt": "", "completion": source, "test": body_of(test), "entry_point": "f"}, 10.0)


@pytest.mark.parametrize("name", RIGHT)
def test_both_the_plain_value_and_what_is_added_work(name):
    result = judged(*RIGHT[name])
    assert (str(result.verdict), result.detail) == ("passed", "")


@pytest.mark.parametrize("name", FORGED)
def test_what_is_added_cannot_forge_what_is_below(name):
    assert str(judged(*FORGED[name]).verdict) in ("wrong_answer", "runtime_error")


def test_classes_that_add_nothing_or_are_not_plain_below_are_left_alone():
    class Same(list):
        _hidden = 1

    class Other:
        public = 1

    for kind in (
        list,
        Same,
        Other,
        collections.Counter,
        collections.namedtuple("P", "x y"),
        numpy.float64,
    ):
        assert added(kind) is None
    assert added(enum.IntEnum("E", "A B")) is not None
