#!/usr/bin/env python3
"""Renders the cases below with the real jinja2, in the environment that chat templates are run in,
and writes golden.json beside this file. Needs the package jinja2:

    python tests/engine/jinja/make_golden.py
"""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 7, 9, 14, 5, 33)

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Says \"how\" it is <outside> & more: ü",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 14}},
                "required": ["city"],
            },
        },
    }
]
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  What's up in Zürich? <|im_end|>  "},
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nSun."},
    {"role": "user", "content": "And 東京?"},
]
CALLS = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a1", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2.5}}}
        ],
    },
    {"role": "tool", "content": "{\"sky\": [1, true, null]}", "tool_call_id": "a1"},
    {"role": "tool", "content": "rain", "tool_call_id": "a2"},
]
BASE = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set sys = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set sys = false %}{% endif %}
{% for m in rest %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must take turns') }}{% endif %}
{% if loop.index0 == 0 and sys is not false %}{% set text = '<<SYS>>\\n' ~ sys ~ '\\n<</SYS>>\\n\\n' + m['content'] %}{% else %}{% set text = m['content'] %}{% endif %}
{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text | trim + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' ~ text | trim ~ ' ' + eos_token }}{% endif %}
{% endfor %}"""
LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") if strftime_now is defined else "26 Jul 2024" %}
{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n" }}
{%- if tools is defined and tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}{{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system }}<|eot_id|>
{%- for message in messages %}
    {%- if message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}{{- raise_exception("one call at a time") }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' }}{{- call.arguments | tojson }}{{- "}<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
MISTRAL = """{%- set turns = messages | rejectattr("role", "equalto", "system") | list %}
{%- set ns = namespace(i=0, last=none) %}
{{- bos_token }}
{%- for m in turns %}
    {%- if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in turns -%}
    {%- if m.role == "user" %}
        {%- if tools and loop.index0 == ns.last %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- for key, val in tool.function.items() if key != "description" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{%- else %}{{- '"' + key + '": ' + val | tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
            {%- endfor %}
            {{- "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {{- "[INST] " ~ m.content ~ "[/INST]" }}
        {%- set ns.i = ns.i + 1 %}
    {%- elif m.tool_calls is defined and m.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}{% for c in m.tool_calls %}{% set out = c.function | tojson %}{{ out[:-1] }}, "id": "{{ c.id }}"{{ "}" }}{{ ", " if not loop.last else "]" + eos_token }}{% endfor %}
    {%- elif m.role == "tool" %}{{- '[TOOL_RESULTS] {"content": ' ~ m.content | string ~ "}" }}
    {%- else %}{{- " " + m.content | trim + eos_token }}
    {%- endif %}
{%- endfor %} {{ ns.i }}"""
QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "<tools>" }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(multi=true, last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and message.content is string and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi = false %}{%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content if message.content is string else '' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if loop.index0 > ns.last or loop.last %}{{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content.lstrip('\\n') }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
            {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"""
PHI = """{% for message in messages %}{% if message['role'] in ['system', 'user', 'assistant'] and message['content'] %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""
SMOL = """{# A comment
   on two lines #}
{%- macro show(tool, depth=1, *, x=2) -%}{%- endmacro -%}""".replace(", *, x=2", "") + """
{%- macro list_tools(items, title="Tools", sep="\\n") %}
### {{ title | upper }}
    {%- for t in items | default([], true) %}
{{ sep }}{{ loop.index }}/{{ loop.length }} {{ t.function.name | capitalize }}: {{ t.function.parameters.properties | dictsort | map('first') | join(', ') }}
    {%- else %} none
    {%- endfor %}
{% endmacro -%}
{%- set mode = "/think" if enable_thinking | default(true) else "/no_think" -%}
<|im_start|>system
Today: {{ strftime_now("%Y-%m-%d %H:%M") }}
Mode: {{ mode }}
{{ list_tools(tools, sep=" * ") }}{{ list_tools([], title="others") }}
{% for m in messages if m.role != 'system' %}
  {% if m.role == 'assistant' %}
    {% generation %}
[{{ m.content or '' }}]
    {% endgeneration %}
  {% else %}
    {% set shown %}
{{ m.role | title }}> {{ m.content }}
{% endset %}
    {{- shown | trim }}{{ loop.nextitem.role if loop.nextitem is defined else ' END' }}{{ loop.previtem is defined }}
  {% endif %}
{% endfor %}"""

FAMILIES = {"llama-2": LLAMA2, "llama-3": LLAMA3, "mistral": MISTRAL, "qwen-3": QWEN3, "phi-3": PHI, "smollm3": SMOL}

# Templates of one construct each; `v` is VALUES.
VALUES = {
    "s": "Hello, Wörld! 'q' \"d\" \n\ttab",
    "pad": " \u00a0x y\u2003\n",
    "list": [3, 1, 2, 3],
    "words": ["pear", "Apple", "fig", "apple"],
    "people": [{"n": "Bo", "a": {"x": 2}, "ok": True}, {"n": "al", "a": {"x": 1}}, {"n": "Cy", "a": {"x": 3}, "ok": False}],
    "d": {"b": 1, "A": [None, True, 1.5], "items": "x", "é": {"k": "v\\ \u2028 \x7f <>&'"}},
    "neg": -7, "f": 2.5, "big": 1e20, "tiny": 1e-7, "zero": 0, "t": True, "n": None, "e": "", "emoji": "a👍b",
}
CONSTRUCTS = [
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ neg % 3 }} {{ 7 / 2 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 1 + 2 * 3 - 4 }} {{ 5.5 // 2 }} {{ -5.5 % 2 }} {{ 2 ** -1 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1,2] == [1,2] }} {{ (1,) == [1] }} {{ none == false }} {{ 3 in list }} {{ 9 not in list }} {{ 'b' in d }} {{ 'ell' in s }}",
    "{{ nope }}|{{ nope is defined }}|{{ nope | default('x') }}|{{ e | default('y', true) }}|{{ d.nope is undefined }}|{{ nope == nope2 }}|{{ [nope] }}|{{ nope | length }}|{{ not nope }}|{{ 'a' ~ nope }}|{{ nope in list }}|{{ nope is iterable }}{{ nope is sequence }}",
    "{{ list }} {{ d }} {{ (1, 'a') }} {{ (1,) }} {{ () }} {{ [] }} {{ {} }} {{ f }} {{ big }} {{ tiny }} {{ none }} {{ true }} {{ 1.0 }} {{ 1e16 }} {{ 123456789.125 }} {{ [s] }} {{ [\"it's\"] }} {{ ['\\x01\\u200b\\xa0é'] }}",
    "{{ d | tojson }} {{ d | tojson(indent=2) }} {{ d | tojson(ensure_ascii=true) }} {{ people | tojson(sort_keys=true, separators=(',', ':')) }} {{ [] | tojson(indent=2) }} {{ emoji | tojson(ensure_ascii=true) }} {{ [big, tiny, f, 1.0] | tojson }} {{ {1: 2, none: true} | tojson }}",
    "{{ s[0] }}{{ s[-1] | tojson }}{{ s[1:4] }}{{ s[::-1] }}{{ s[8:2:-2] }}{{ list[::-1] }}{{ list[1:] }}{{ list[:-1] }}{{ list[-2:] }}{{ list[5:] }}{{ emoji[1] }}{{ emoji[:2] }}{{ emoji | length }}{{ list[::2] }}{{ list[10::-1] }}{{ (1,2,3)[1:] }}",
    "[{{ pad | trim }}][{{ pad.strip() }}][{{ pad.lstrip() }}][{{ pad.rstrip() }}][{{ 'xxaxx'.strip('x') }}][{{ 'xxayx' | trim('xy') }}][{{ 'éaé'.strip('é') }}]",
    "{{ s.upper() }} {{ s.lower() }} {{ s.title() }} {{ s | title }} {{ s | capitalize }} {{ \"they're bill's\".title() }} {{ \"they're b-c\" | title }} {{ 'ÀÉ ŁÓDŹ ЖУК ΑΒΓ' | lower }} {{ 'àé łódź жук αβγ' | upper }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b c '.split() }} {{ 'a b c d'.split(' ', 1) }} {{ ' a b c '.split(none, 1) }} {{ 'aXXb'.split('XX')[-1] }} {{ 'a\\nb\\r\\nc'.splitlines() }} {{ '-'.join(['x','y']) }} {{ 'abcabc'.find('c') }} {{ 'abc'.find('z') }} {{ 'banana'.count('an') }}",
    "{{ 'aaa'.replace('a', 'bb') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ 'abc'.replace('', '-') }} {{ 'aaa' | replace('a', 'x', 1) }} {{ '{} and {1} {{x}} {n}'.format('p', 'q', n=3) if false else '{0}-{1}-{n}'.format('p', 'q', n=3) }} {{ '%s is %d%%' % ('a', 5) }} {{ '%s' | format('z') }}",
    "{{ s.startswith('Hell') }} {{ s.endswith(('x', 'tab')) }} {{ d.get('b') }} {{ d.get('zz') }} {{ d.get('zz', 4) }} {{ d.keys() | list }} {{ d.values() | list }} {{ d['items'] }} {% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{{ words | sort }} {{ words | sort(reverse=true) }} {{ words | sort(case_sensitive=true) }} {{ people | sort(attribute='a.x') | map(attribute='n') | list }} {{ words | unique | list }} {{ list | unique | list }} {{ list | reverse | list }} {{ 'abc' | reverse }} {{ list | sum }} {{ people | sum(attribute='a.x') }}",
    "{{ list | first }} {{ list | last }} {{ list | join('-') }} {{ people | join(', ', attribute='n') }} {{ words | map('upper') | join('|') }} {{ people | map(attribute='ok', default='?') | list }} {{ 'ab' | list }} {{ d | list }} {{ d | items | list | length }} {{ d | dictsort | map('first') | list }} {{ {'x': 2, 'y': 1} | dictsort(by='value') }}",
    "{{ list | select('odd') | list }} {{ list | reject('gt', 2) | list }} {{ people | selectattr('ok') | map(attribute='n') | list }} {{ people | selectattr('ok', 'defined') | list | length }} {{ people | rejectattr('n', 'eq', 'Bo') | map(attribute='n') | list }} {{ people | selectattr('n', 'in', ['al', 'Cy']) | list | count }} {{ [0, 1, ''] | select | list }}",
    "{{ '12' | int }} {{ ' 7 ' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ '3.9' | int }} {{ 'ff' | int(0, 16) }} {{ '2.5' | float }} {{ 'q' | float }} {{ 2.567 | round(2) }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.1 | round(0, 'ceil') }} {{ 7 | round }} {{ neg | abs }} {{ -2.5 | abs }} {{ 5 | string + '!' }} {{ none | string }} {{ true | int }}",
    "{{ 'a\\nb\\n\\nc' | indent }} {{ 'a\\nb' | indent(2, true) }} {{ 'a\\n\\nb' | indent('> ', blank=true) }} {{ 'x' | safe }}",
    "{{ 1 is number }}{{ true is number }}{{ 1 is integer }}{{ true is integer }}{{ 1.0 is float }}{{ true is boolean }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ 's' is string }}{{ d is mapping }}{{ list is mapping }}{{ s is iterable }}{{ 1 is iterable }}{{ s is sequence }}{{ d is sequence }}{{ none is none }}{{ 3 is odd }}{{ 4 is even }}{{ 2 is in [1, 2] }}{{ 4 is divisibleby 2 }}{{ 1 is eq 1 }}{{ 'a' is equalto 'b' }}{{ 1 is not defined }}{{ range is callable }}{{ 3 is ge(2) }}",
    "{% for i in range(5) if i is odd %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ i }}{{ loop.cycle('a', 'b') }} {% else %}none{% endfor %}{% for i in [] %}x{% else %}empty{% endfor %}{% for i in range(3, 0, -1) %}{{ i }}{% endfor %}{% for i in nope %}x{% else %}-{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}{% for a in [1, 2] %}{% for b in 'xy' %}{{ loop.depth }}{{ a }}{{ b }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = i * 10 %}{{ x }} {% endfor %}{{ x }}{% if true %}{% set x = 5 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.new = i %}{% endfor %}{{ ns.n }}{{ ns.new }}{{ ns.zz is defined }}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% set y %} block {{ 1 + 1 }} {% endset %}[{{ y }}]{% set z | trim | upper %} block {% endset %}[{{ z }}]{% filter upper | replace('A', '4') %}abc{{ 'a' }}{% endfilter %}",
    "{% macro m(a, b='B', c=a) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=5, a=4) }}{{ m() }}{% macro fact(n) %}{{ n * (fact(n - 1) | int) if n > 1 else 1 }}{% endmacro %}{{ fact(5) }}{% set g = 1 %}{% macro seen() %}{{ g }}{% endmacro %}{% set g = 2 %}{{ seen() }}{{ m(1) | upper | length }}",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n  {%+ if true %}\n d {%- if true -%}  \n  e {% endif +%}\n f {% endif %}\n {# note #}\n g {#- note -#} h\n  {{ 1 }}  \n{{- 2 -}}  \n i\n\n",
    "{% raw %}{{ not }} {% this %}{% endraw %}|\n  {%- raw -%}  x  {%- endraw -%}  y\n {% raw %}\n z\n {% endraw %}\nend\r\nlast\n",
    "{{ 'a' 'b' }} {{ \"\\n\\t\\\\\\\"\\'\\x41\\u00e9\\q\" }} {{ 1_000 }} {{ 1.5e3 }} {{ {'a': {'b': [1, {'c': 2}]}}.a.b[1].c }} {{ list.0 }} {{ ('x' if zero else 'y') }} {{ 'x' if zero }} {{ 1, 2 }} {{ not true or true and false }} {{ 'é' ~ 1 ~ none }} {{ [1] + [2] }} {{ 'ab' * 2 }} {{ [0] * 3 }} {{ -f | abs }} {{ +1 }}",
    "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% else %}E{% endfor %}|{% for i in [1, 2] %}{% break %}{% else %}E{% endfor %}|{% for i in [1, 2] %}{% continue %}{% else %}E{% endfor %}|{% for i in [1, 2] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% else %}E{% endfor %}",
    "{% set odd = list | select('odd') %}{{ odd | first }}{{ odd | list }}{{ odd | list }}{{ 'true' if odd else 'false' }}{{ 'true' if list | reject('ge', 0) else 'false' }}{{ 'true' if [] | map('upper') and [] | unique and {} | items and [] | reverse and [] | rejectattr('x') else 'false' }} {{ odd is sequence }}{{ odd is iterable }}{{ (list | map('string'))[0] }}{{ (list | map('string')).x is defined }}",
    "{% set g = list | map('abs') %}{{ 1 in g }}{{ g | list }}{{ 9 in g }}{{ g == g }}{{ g == list }}{{ list | map('abs') | join }}{{ list | map('abs') | sort }}{{ list | map('abs') | reverse }}{% for i in words | map('upper') %}{{ loop.index }}/{{ loop.length }}{{ i }}{{ loop.last }} {% endfor %}{{ [0, 1, '', none, [], nope] | reject | list }}{% set a, b = [1, 2] | map('string') %}{{ a }}{{ b }}",
    "{% for i in [1, [2, [3, 4]], 5] recursive %}{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}{{ loop.index }}/{{ loop.length }}@{{ loop.depth }}{{ loop.depth0 }}{% endif %}{% endfor %}{% for i in [[], 2] recursive %}{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}{% endif %}{% else %}E{% endfor %}{% for i in [[1], 2] recursive %}{% set outer = loop %}{% if i is iterable %}{% for j in [9] %}{{ outer([5]) }}{{ loop.depth }}{% endfor %}{% else %}{{ i }}{% endif %}{% endfor %}",
    "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.changed(i, 2) }}{% endfor %}{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop is callable }}{% endfor %}",
    "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a }}{% with a=1, b=a %}{{ a }}{{ b }}{% set a=7 %}{{ a }}{% endwith %}{{ a }}{% with %}{% set q=1 %}{{ q }}{% endwith %}{{ q }}{% with (a, b) = (1, 2), c=3 %}{{ a }}{{ b }}{{ c }}{% endwith %}{% for i in [1, 2, 3] %}{% with j=i %}{% if j == 2 %}{% continue %}{% endif %}{{ j }}{{ loop.index }}{% endwith %}{% endfor %}",
    "{% macro m(x) %}[{{ x }}{{ caller(3) }}]{% endmacro %}{% call(q) m(1) %}b{{ q }}{% endcall %}{% macro n() %}<{{ caller() | upper }}>{% endmacro %}{% call n() %}a{% call n() %}b{% endcall %}c{% endcall %}{% macro o(x, caller=none) %}[{{ caller() if caller }}]{% endmacro %}{{ o(1) }}{% call o(1) %}b{% endcall %}{% for i in [1, 2] %}{% call n() %}{{ i }}{{ loop.index }}{% endcall %}{% endfor %}{% macro p() %}{{ caller is defined }}{% endmacro %}{{ p() }}{% call p() %}{% endcall %}",
    "{% macro m(x) %}{{ x }}{{ varargs }}{{ kwargs }};{% endmacro %}{{ m(1, 2, 3, q=4) }}{{ m() }}{{ m(x=1, y=2) }}{{ m(*[1, 2], **{'k': 3}) }}{{ dict(**{'a': 1}) }}{{ '{}{}'.format(*list[:2]) }}{% macro n(a, b=2) %}{{ a }}{{ b }};{% endmacro %}{{ n(*[1]) }}{{ n(1, **{'b': 5}) }}{{ n(b=3, *[1]) }}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{{ s | truncate(9) }}|{{ s | truncate(9, true) }}|{{ s|truncate(5, true, '…', 0) }}|{{ s | truncate }}|{{ s|truncate(length=8, leeway=2) }}|{{ 'foo bar baz qux'|truncate(11) }}|{{ 'foo bar baz qux'|truncate(11, False, '...', 0) }}",
    "{{ 'foobarbazqux'|truncate(6, false, '', 0) }}|{{ 'émoji👍 x y'|truncate(8, false, '>', 0) }}|{{ 'a  b  c'|truncate(5, false, '', 0) }}",
    "{{ list | batch(2) | list }}{{ list | batch(3, 'x') | list }}{{ [] | batch(2) | list }}{{ 'abcde' | batch(2, '-') | list }}{{ list|batch(0)|list }}{{ list|batch(-1, 3)|list }}{{ list|batch(2, none)|list }}",
    "{{ list | batch(linecount=3, fill_with=0) | list }}{{ d | batch(2) | list }}",
    "{{ list | slice(2) | list }}{{ list | slice(3, 'x') | list }}{{ [] | slice(2) | list }}{{ 'abcde' | slice(2, '-') | list }}{{ list|slice(-1)|list }}{{ list|slice(7)|list }}",
    "{{ nope | slice(2) | list }}{{ nope | batch(2) | list }}",
    "{{ list | min }}{{ list | max }}{{ words | min }}{{ words | max }}{{ words | min(case_sensitive=true) }}{{ people | max(attribute='a.x') }}{{ [] | max }}{{ ([]|max) is defined }}{{ 'hello' | max }}{{ d | min }}{{ [1, 2.5] | max }}",
    "{{ nope | max }}|{{ list | map('abs') | max }}{{ [[1,2],[0,5]] | min }}{{ ['B','a'] | max }}{{ ['b','B'] | max }}{{ ['b', 'B'] | min }}",
    "{{ people | groupby('a.x') | list }}",
    "{% for g in people | groupby('ok', default=false) %}{{ g.grouper }}:{{ g.list | map(attribute='n') | join(',') }};{{ g[0] }}{{ g|length }} {% endfor %}",
    "{% for k, l in words | map('upper') | groupby(0) %}{{ k }}={{ l }} {% endfor %}",
    "{% for k, l in [{'c': 'b'}, {'c': 'B'}, {'c': 'a'}] | groupby('c') %}{{ k }}={{ l }} {% endfor %}{% for k, l in [{'c': 'b'}, {'c': 'B'}, {'c': 'a'}] | groupby('c', case_sensitive=true) %}{{ k }}={{ l }} {% endfor %}",
    "{{ (words | groupby(0))[0] }}{{ (words|groupby(0))[0].nope is defined }}",
    "{{ 'Hello, world! it\\'s a_b 3.5 é東京 x' | wordcount }}{{ '' | wordcount }}{{ 55 | wordcount }}{{ '— “a” … b​c 👍 ½ ² ª·x' | wordcount }}{{ \"don’t\" | wordcount }}",
    "[{{ 'ab' | center(7) }}][{{ 'ab' | center(6) }}][{{ 'abc' | center(6) }}][{{ 'é' | center(4) }}][{{ 'abc' | center(2) }}][{{ 5 | center(4) }}]",
    "{{ '<a href=\"x\">&\\'' | e }}{{ '<' | escape }}{{ '<' | forceescape }}{{ none | e }}{{ 5 | e }}{{ nope | e }}",
    "{{ {'a': 1, 'b': none, 'c': nope, 'd': '<\"x\">', 'e': true} | xmlattr }}|{{ {'a': 1} | xmlattr(false) }}|{{ {} | xmlattr }}|{{ {'é': ''} | xmlattr(autospace=true) }}",
    "{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'a1' is lower }}{{ '1' is lower }}{{ 'aB' is upper }}{{ 5 is lower }}{{ none is upper }}{{ true is lower }}{{ 'ß' is lower }}",
    "{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'defined' is test }}{{ 'nope' is test }}{{ 5 is filter }}",
    "{{ [none, none, 1][:2] | sort }}{{ people | sort(attribute='n,a.x') | map(attribute='n') | join }}{{ [{'a': 1, 'b': 2}, {'a': 1, 'b': 1}, {'a': 0, 'b': 9}] | sort(attribute='a,b') }}{{ [[2, 'x'], [1, 'y']] | sort(attribute=0) }}{{ people | map(attribute='a.nope.x', default='q') | list }}{{ people | map(attribute='n', default=none) | list }}{{ list | join(attribute=none) }}{{ list | sum(none, 1) }}",
    "{% for t in ['straße ß ßa', 'ΑΣ ς ΌΔΟΣ, ΣΑΣ.ΣΑ Σ \u0391\u03a3\u2019 \u03a3', 'ﬁn ŉ ǰ ǆ ǅ ǌ İ ı ſ µ ÿ', 'ĳ ơ ɓ Ɓ ẞ Ω K Å', 'ქართული Ქართული և ֆ', 'ｆｕｌｌ Ⅷ ⅷ ὰ Ἀ ꙁ Ԝ', \"they're (o'neil) x-y [z {w <v 1st\"] %}{{ t.upper() }}|{{ t.lower() }}|{{ t.title() }}|{{ t.capitalize() }}|{{ t | title }}|{{ t | capitalize }}|{{ t is lower }}{{ t is upper }}\n{% endfor %}",
    "{% for t in ['ⓠuire Ⓠ', 'ᾳ ᾼ ᾀ ᾈ ᾷ ῲ ΐ ὒ', 'ɐ ɕ ᴀ ᴀa Ꭰ ꭰ ᏸ', 'ǲ ²a ½a ⅷa', 'ﬓ ẗ ᵹ ꟁ'] %}{{ t.upper() }}|{{ t.lower() }}|{{ t.title() }}|{{ t.capitalize() }}\n{% endfor %}",
    "{% for c in '½²Ⅷ三४𝟗一aªʰ_ⓐ€́·۝' %}{{ c.isalpha() }}{{ c.isalnum() }}{{ c.isdecimal() }} {% endfor %}{{ 'a½b ⅷ €5 _x ʰ· ⓐ́b' | wordcount }}{{ '½Ⅷ४²'.isnumeric() }}{{ 'a½'.isnumeric() }}",
    "{{ 'x' % [] }}{{ 'x' % {} }}{{ 'x' % () }}",
    "{{ 'a-b-c'.rsplit('-', 1) }}{{ 'a b  c '.rsplit(none, 1) }}{{ ' a b '.rsplit() }}{{ 'a-b-c'.rsplit('-') }}{{ 'aaa'.rsplit('aa') }}{{ ' a b c'.rsplit(maxsplit=1) }}{{ 'aaaa'.rsplit('aa', 1) }}{{ ''.rsplit() }}{{ ''.rsplit('x') }}{{ 'a b c'.rsplit(none, 0) }}{{ ' a  b '.rsplit(none, 5) }}",
    "{{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.partition('-') }}{{ 'abc'.rpartition('-') }}",
    "{{ 'abc'.removeprefix('ab') }}{{ 'abc'.removesuffix('bc') }}{{ 'abc'.removeprefix('x') }}{{ ''.removesuffix('') }}{{ 'abc'.removesuffix('') }}",
    "{{ 'abcabc'.rfind('b') }}{{ 'abcabc'.index('c') }}{{ 'abcabc'.rindex('c') }}{{ 'éaé'.rfind('é') }}{{ 'x'.rfind('') }}{{ 'abc'.rfind('z') }}",
    "{{ 'abcabc'.find('b', 2) }}{{ 'abcabc'.find('b', 2, 4) }}{{ 'abcabc'.find('a', -3) }}{{ 'abcabc'.count('a', 1) }}{{ 'abcabc'.startswith('b', 1) }}{{ 'abcabc'.endswith('b', 0, 2) }}{{ 'abc'.find('', 3) }}{{ 'abc'.find('', 4) }}{{ 'abc'.rfind('a', 1) }}{{ 'abc'.rfind('', 0, 2) }}{{ 'abc'.startswith('', 4) }}{{ 'éabc'.find('b', 1, none) }}{{ 'abc'.count('', 1) }}{{ 'abc'.endswith(('c', 'x'), 1) }}{{ 'abc'.find('c', 0, -1) }}",
    "{{ '12'.isdigit() }}{{ ''.isdigit() }}{{ '1a'.isdigit() }}{{ ' '.isspace() }}{{ ''.isspace() }}{{ 'a'.islower() }}{{ 'A1'.isupper() }}{{ 'aB'.islower() }}{{ '\\u00a0x'.isspace() }}",
    "[{{ 'ab'.ljust(4) }}][{{ 'ab'.rjust(4, '.') }}][{{ 'ab'.center(5, '*') }}][{{ 'ab'.center(7, '*') }}][{{ '-5'.zfill(4) }}][{{ '+5'.zfill(4) }}][{{ '5'.zfill(0) }}][{{ 'é'.zfill(3) }}][{{ ''.zfill(2) }}][{{ 'abc'.ljust(2) }}]",
    "{{ d.copy() == d }}{{ [1].copy() }}",
    "{{ 'a\\x0bb\\x0cc\\x1cd\\x85e\\u2028f\\ng\\rh\\r\\ni'.splitlines() }}{{ 'a\\nb\\n'.splitlines(true) }}{{ ''.splitlines() }}{{ 'a\\r\\nb'.splitlines(keepends=true) }}{{ 'a\\n\\nb'.splitlines() }}",
    "{{ 'x'.join('abc') }}{{ '-'.join(d) }}{{ '-'.join([]) }}{{ '-'.join(list | map('string')) }}",
    "{{ 'abc'.strip(none) }}{{ 'abc'.lstrip('ba') }}{{ 'abc'.rstrip('cb') }}",
    "{{ 'a\\n\\n  b\\r\\nc\\x0bd\\n' | indent }}|{{ 'a\\n\\nb\\n' | indent(2, blank=true) }}|{{ '' | indent(first=true) }}|{{ 'a' | indent(width=3, first=true) }}|{{ 'a\\n' | indent(1, true, true) }}",
    "{{ ['abc'.isalpha(), 'ab1'.isalnum(), 'a b'.isalpha(), 'éß'.isalpha(), '東京1'.isalnum(), '1'.isnumeric(), '١'.isdecimal(), ''.isalnum()] }}{{ [1,2,1].count(1) }}{{ [1,2,1].index(2) }}{{ (1,2).index(2) }}{{ (1,2,1).count(1) }}",
    "{{ '%5d|%-5s|%05.2f|%i|%+d|% d|%5s|%.2s|%05d|%-05d|%f' % (3, 'a', 2.5, 4, 5, 6, 'éa', 'abc', -3, 4, 1.5) }}",
    "{{ '%(a)s %(b)d %%' % {'a': 1, 'b': 2} }}{{ '%(a)s'|format(a=5) }}{{ '%(a)5.1f' % {'a': 2.25} }}",
    "{{ '%d' % 2.9 }}{{ '%d' % true }}{{ '%s' % none }}{{ '%5s' % true }}{{ '%.3f' % 2 }}{{ '%f' % true }}",
    "{{ 'x' % [] }}{{ 'x' % {} }}{{ 'x' % () }}",
    "{{ '{:>5}|{:<5}|{:^5}|{:*^7}|{:05d}|{:.2f}|{:,}|{:+d}|{:5}|{:5}|{:x}|{:b}|{:%}|{:.1%}|{:e}' .format('a', 'b', 'c', 'd', 42, 3.14159, 1234567, 5, 'x', 3, 255, 5, 0.25, 0.256, 1500.0) }}",
    "{{ '{0[a]}|{1.b}|{0[a]:>3}|{x[0]}|{x[1]!r}' .format({'a': 1}, {'b': 2}, x=['p', 'q']) }}",
    "{{ '{!r}|{!s}|{a!r:>5}|{:s}|{:d}' .format('x', 1, 's', 7, a='é') }}",
    "{{ '{:{}}' .format('x', 5) }}",
    "{{ '{:{w}.{p}f}' .format(2.5, w=8, p=2) }}",
    "{{ '{:5}|{}|{:d}' .format(1.5, true, true) }}",
    "{{ '{{}} {{{}}}' .format(1) }}{{ '}}{{' .format() }}",
    "{{ '{a}' .format(a=1, b=2) }}{{ '{}' .format(1, 2) }}",
    "{{ '{:10.3f}|{:<10.3f}|{:010.3f}|{:+.2f}|{: .2f}|{:.0f}|{:.3s}|{:10.2s}|' .format(3.14159, 3.14159, -3.14159, 2.0, 2.0, 2.5, 'abcdef', 'xyz') }}",
    "{{ '{:,}|{:,.2f}|{:_}|{:,}' .format(-1234567, 1234.5, 1000000, 999) }}",
    "{{ '0x1F' | int(0, 16) }} {{ '-0x1F' | int(0, 16) }} {{ '0b11' | int(0, 2) }} {{ '0o17' | int(0, 8) }} {{ '1_000' | int }} {{ '+5' | int }} {{ '- 5' | int }} {{ '1__0' | int }} {{ '_1' | int }} {{ '0x1F' | int }} {{ '1e3' | int }} {{ 'inf' | int }} {{ '' | int }} {{ ' ' | int(3) }} {{ [] | int }} {{ none | int(7) }} {{ 'z' | int(0, 36) }} {{ '1_0.5' | float }} {{ '1._5' | float }} {{ 'infinity' | float }} {{ '.5' | float }} {{ '5.' | float }} {{ '0x10' | float }} {{ '-2.7' | int }} {{ '+-5' | int }} {{ '--5' | int }} {{ '12' | int(base=0) }}{{ '0x1f' | int(base=0) }} {{ 'f_f' | int(base=16) }} {{ '-' | int(9) }} {{ '0b' | int(5, 16) }}",
    "{{ ['%5d|%-5s|%05.2f|%i|%+d|% d|%5s|%.2s|%05d|%-05d|%f' % (3, 'a', 2.5, 4, 5, 6, 'éa', 'abc', -3, 4, 1.5)] }}{{ '%x|%X|%o|%r|%e|%g|%G|%E|%#x' % (255, 255, 8, 'q', 12345.678, 0.0001, 1e20, 1.5, 255) }}",
    "{{ '%(a)s %(b)d %%' % {'a': 1, 'b': 2} }}{{ '%(a)s'|format(a=5) }}{{ '%(a)5.1f' % {'a': 2.25} }}{{ '%d' % 2.9 }}{{ '%d' % true }}{{ '%s' % none }}{{ '%5s' % true }}{{ '%.3f' % 2 }}{{ '%f' % true }}{{ 'x' % [] }}{{ 'x' % {} }}{{ 'x' % () }}{{ '%s' % [1, 2] }}",
    "{{ '%d' % -9223372036854775807 }}{{ '%x' % -255 }}{{ '{:x}'.format(-255) }}{{ '{:+}'.format(0) }}{{ '{:e}'.format(0.0) }}{{ '{:,}'.format(12) }}{{ '{:5}|{:<5}|{:^5}'.format(12, 12, 12) }}{{ '{:^6}|{:^5}|{:>3}'.format('ab', 'ab', 'é') }}",
    "{{ strftime_now('%d %B %Y, %A') }} {{ dict(a=1, b='x') }} {{ dict({'q': 1}, r=2) }} {% set l = [1,2] + [3] %}{{ l }} {{ zero or 'or' }} {{ 1 and 'and' }} {{ t and not n }} {{ 'A' is lower if false else 2 }}".replace("{{ 'A' is lower if false else 2 }}", ""),
]
FAILING = [
    "{{ nope.x }}", "{{ nope + 1 }}", "{{ raise_exception('told so') }}", "{{ list.append(1) }}", "{{ 1 + 'a' }}", "{{ [1] | nosuch }}",
    "{% if %}{% endif %}", "{% for x in [1] %}", "{{ 'open }}", "{% endif %}", "{{ 1 / 0 }}", "{{ nope() }}", "{{ d.update({'x': 1}) }}",
    "{{ nope | tojson }}", "{% set a, b = [1] %}", "{{ (1 }}", "{{ 'a' < 1 }}", "{% include 'x' %}", "{{ 3 in 3 }}", "{{ 1 is nosuch }}", "{% for i in 5 %}{% endfor %}",
    "{{ list | select('odd') | length }}", "{{ list | select('odd') | last }}", "{{ list | map('string') | tojson }}",
    "{% for i in [1] %}{{ loop([2]) }}{% endfor %}", "{% with a, b = 1, 2 %}{% endwith %}", "{% with a=1 b=2 %}{% endwith %}", "{% set n = namespace() %}{% with n.x=2 %}{% endwith %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{% call m(1) %}b{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m(caller) %}{{ caller }}{% endmacro %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() | upper %}{% endcall %}", "{% call range(3) %}{% endcall %}", "{% macro m() %}{{ caller(1) }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m(x) %}{{ kwargs }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(x) %}{{ varargs }}{% endmacro %}{{ m(1, x=2) }}", "{{ range(**{'a': 1}, b=2) }}", "{{ dict(**[1]) }}", "{{ range(*5) }}",
    "{{ s | truncate(2) }}",
    "{{ 5 | truncate(2) }}",
    "{{ s | truncate(9, leeway=-1) }}",
    "{{ list | slice(0) | list }}",
    "{{ list | slice('a') | list }}",
    "{{ people | min(attribute='nope') }}",
    "{{ [1, 'a'] | max }}",
    "{{ people | groupby('ok') }}",
    "{{ {'a b': 1} | xmlattr }}",
    "{{ {'a>': 1} | xmlattr }}",
    "{{ {1: 1} | xmlattr }}",
    "{{ 5 | xmlattr }}",
    "{{ d | attr('items') is defined }}{{ d | attr('b') is defined }}{{ s | attr('upper') is defined }}{{ (s | attr('upper'))() }}{{ nope|attr('x') is defined }}{% set ns = namespace(x=1) %}{{ ns|attr('x') }}{{ ns|attr('y') is defined }}",
    "{{ 'abc'.partition('') }}",
    "{{ 'abc'.index('z') }}",
    "{{ 'abc'.rindex('z') }}",
    "{{ 'a'.ljust(3, 'xy') }}",
    "{{ 'a'.ljust() }}",
    "{{ [1,2].index(5) }}",
    "{{ '-'.join([1]) }}",
    "{{ nope | int }}",
    "{{ nope | float }}",
    "{{ '%(a)s' % {'b': 1} }}",
    "{{ '%(a)s' % 5 }}",
    "{{ '%d' % 'x' }}",
    "{{ '%f' % 'x' }}",
    "{{ '%s %s' % ('a',) }}",
    "{{ '%s' % ('a', 'b') }}",
    "{{ 'x' % 5 }}",
    "{{ 'x' % 'y' }}",
    "{{ '%y' % 5 }}",
    "{{ '%' % 5 }}",
    "{{ '%s' % nope }}{{ '%d' % nope }}",
    "{{ '{0} {}' .format(1, 2) }}",
    "{{ '{} {0}' .format(1, 2) }}",
    "{{ '{:d}' .format('x') }}",
    "{{ '{:5}|{:5}|{:<5}|{}' .format(none, true, [], [1]) }}",
    "{{ '{}' .format(nope) }}{{ '{:>3}' .format(nope) }}",
    "{{ 1.5 is even }}{{ 3.0 is odd }}{{ '%s' is even }}{{ -3 is odd }}{{ 2.5 is divisibleby 0.5 }}{{ nope is callable }}{{ true is odd }}{{ 7 is divisibleby -1 }}",
    "{{ nope is odd }}",
    "{{ 3 is divisibleby 0 }}",
    "{{ 'a' is odd }}",
    "{{ nope | indent }}",
    "{{ none | indent }}",
    "{{ [1] < (1, 2) }}",
    "{{ [[1], (2,)] | sort }}",
    "{{ n[1:] }}",
    "{{ d[:1] }}",
]


class Generation(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %} prints what it holds, as transformers' extension does."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("printed"), [], [], body).set_lineno(line)

    def printed(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def rendered(name, template, values):
    case = {"name": name, "template": template, "values": values}
    try:
        case["text"] = environment().from_string(template).render(**values)
    except Exception as error:  # whatever jinja2 refuses, Quire has to refuse
        case["refusal"] = type(error).__name__
    return case


def main():
    cases = []
    for family, template in FAMILIES.items():
        for talk_name, talk in (("talk", TALK), ("calls", CALLS), ("question", TALK[3:])):
            for tools in (None, TOOLS):
                values = {**BASE, "messages": talk, **({"tools": tools} if tools else {})}
                cases.append(rendered(f"{family} {talk_name}{' tools' if tools else ''}", template, values))
    for i, template in enumerate(CONSTRUCTS):
        cases.append(rendered(f"construct {i}", template, VALUES))
    for i, template in enumerate(FAILING):
        case = rendered(f"failing {i}", template, VALUES)
        assert "refusal" in case, template
        cases.append(case)
    for case in cases:
        if case["name"].startswith("construct"):
            assert "text" in case, case
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text(json.dumps(cases, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
