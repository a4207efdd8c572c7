/* template: expressions, statements and whitespace as Jinja2 3.1 renders them, three whole templates, every
   status, limits, hostile input; chat.json: templates of real models as transformers renders them */
#define AWQ_IMPLEMENTATION
#define AWQ__TP_WORK 128000000 /* a quarter, so that the tests of the limit take less */
#include "../awq.h"
#include "test.h"

static const awq_message talk[] = {
    {"system", "Be brief.", NULL}, {"user", "Hi", NULL}, {"assistant", "Hello, you!\n", NULL},
    {"user", " caf\xc3\xa9? ", NULL}};

static const char chatml[] =
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nA default.<|im_end|>\\n' }}"
    "{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endif %}\n";

static const char headers[] =
    "{{- bos_token }}\n"
    "{%- if not date_string is defined %}\n"
    "    {%- set date_string = strftime_now(\"%d %b %Y\") if strftime_now is defined else \"none\" %}\n"
    "{%- endif %}\n"
    "{#- the system message is taken out first #}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system = messages[0]['content']|trim %}\n"
    "    {%- set messages = messages[1:] %}\n"
    "{%- else %}\n"
    "    {%- set system = \"\" %}\n"
    "{%- endif %}\n"
    "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\nToday: \" + date_string + \"\\n\\n\" }}\n"
    "{{- system + \"<|eot_id|>\" }}\n"
    "{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\n"
    "    {{- message['content'] | trim + '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n"
    "{%- endif %}\n";

static const char inst[] =
    "{{ bos_token }}{% set ns = namespace(system='') %}\n"
    "{% for message in messages if message.role == 'system' %}\n"
    "{% set ns.system = ns.system ~ message.content ~ '\\n\\n' %}\n"
    "{% endfor %}\n"
    "{% for message in messages|rejectattr('role', 'equalto', 'system') %}\n"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
    "{{ raise_exception('user and assistant must take turns, not ' ~ message.role) }}\n"
    "{% endif %}\n"
    "{% if message['role'] == 'user' %}\n"
    "{{- '[INST] ' + (ns.system if loop.last else '') + message['content']|trim + ' [/INST]' -}}\n"
    "{% else %}\n"
    "{{- ' ' + message['content']|trim + eos_token -}}\n"
    "{% endif %}\n"
    "{% endfor %}";

/* render over messages; out gets the text or the error */
static awq_status render(const char *chat_template, const awq_message *messages, size_t count,
                         const awq_template_desc *desc, char *out, size_t cap)
{
    awq_template_desc none;
    awq_ctx ctx;
    awq_status st;
    char *text = NULL;
    size_t bytes = 12345;
    memset(&ctx, 0, sizeof ctx);
    memset(&none, 0, sizeof none);
    none.bos_token = "<s>";
    none.eos_token = "</s>";
    none.add_generation_prompt = 1;
    st = awq_template_render(&ctx, chat_template, messages, count, desc ? desc : &none, &text, &bytes);
    CHECK(st ? !text && bytes == 12345 : text && strlen(text) == bytes);
    CHECK(!st || ctx.err.status == st);
    snprintf(out, cap, "%s", st ? ctx.err.text : text);
    awq_text_free(&ctx, text);
    CHECK(ctx.memory_used == 0);
    return st;
}

static void expect(const char *chat_template, const char *expected)
{
    char out[4096];
    awq_status st = render(chat_template, talk, 4, NULL, out, sizeof out);
    CHECK_MSG(st == AWQ_OK && !strcmp(out, expected), "%s: [%s], expected [%s]", chat_template, out, expected);
}

static void expect_error(const char *chat_template, awq_status status, const char *part)
{
    char out[4096];
    awq_status st = render(chat_template, talk, 4, NULL, out, sizeof out);
    CHECK_MSG(st == status && strstr(out, part), "%.200s: %s: %s", chat_template, awq_status_name(st), out);
}

static void test_expressions(void)
{
    static const char *const cases[][2] = {
        {"{{ 'a\\tb\\x41\\u00e9\\'\\\"\\\\\\q' }}|{{ \"x\" 'y' }}",
         "a\tbA\xc3\xa9'\"\\\\q|xy"},
        {"{{ '\\U0001F600' }}{{ \"a\\nb\" }}",
         "\xf0\x9f\x98\x80" "a\nb"},
        {"{{ 1 + 2 * 3 - 4 // 3 % 5 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -1 - -2 }} {{ + 3 }}",
         "6 -4 2 -2 1 3"},
        {"{{ 2 * 3 ~ 'x' }} {{ 'a' ~ 1 ~ none ~ [true] }} {{ 'ab' * 2 }} {{ 'ab' * -1 }}|",
         "6x a1None[True] abab |"},
        {"{{ not true }} {{ true and none }} {{ none or 'x' }} {{ 1 or 2 }} {{ not 1 == 2 }} {{ not false and "
         "false }}",
         "False None x 1 True False"},
        {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ 'a' <= 'a' }} {{ 'ab' > 'abc' }} {{ 2 >= 3 }} {{ "
         "1 != 1 }}",
         "True False True True False False False"},
        {"{{ 'a' in 'cat' }} {{ '' in '' }} {{ 'b' not in ['a'] }} {{ 1 in {1: 2} }} {{ (1, 2) in [(1, 2)] }} "
         "{{ 'x' in foo }}",
         "True True True True True False"},
        {"{{ [1] == [1] }} {{ (1,) == [1] }} {{ {'a': 1} == {'a': true} }} {{ {'a': 1} == {'b': 1} }} {{ 'a' ="
         "= 1 }} {{ foo == bar }} {{ none == foo }}",
         "True False True False False True False"},
        {"{{ 1 if true else 2 if false else 3 }} {{ (1 if false else 2 if false else 3) }} {{ 'x' if false }}|",
         "1 3 |"},
        {"{{ [1, 'a', none, true, {'k': [1, (2,), ()]}, foo] }} {{ (1, 2) }} {{ 1, 2 }} {{ {} }} {{ [] }} {{ ("
         ") }} {{ [1, 2, ] }}",
         "[1, 'a', None, True, {'k': [1, (2,), ()]}, Undefined] (1, 2) (1, 2) {} [] () [1, 2]"},
        {"{{ [\"it's\", 'q\"', '\\'\"', \"a\\nb\\\\\\t\", '\\x7f\\x01'] }}",
         "[\"it's\", 'q\"', '\\'\"', 'a\\nb\\\\\\t', '\\x7f\\x01']"},
        {"{{ {'a': 1, 'b': 2, 'a': 3} }} {{ {'x': {'y': 'z'}}.x.y }} {{ {'x': {'y': 'z'}}['x']['y'] }} {{{'a':"
         " 1}}}",
         "{'a': 3, 'b': 2} z z {'a': 1}"},
        {"{{ messages|length }} {{ messages[-1].role }} {{ messages[0]['content'] }} {{ messages.1.role }} {{ "
         "messages[0] }}",
         "4 user Be brief. user {'role': 'system', 'content': 'Be brief.'}"},
        {"{{ messages[9] is defined }} {{ messages[0].foo is defined }} {{ messages[0].content.content is defi"
         "ned }} {{ foo }}|",
         "False False False |"},
        {"{{ tools is none }} {{ documents is none }} {{ date_string is defined }} {{ strftime_now is defined "
         "}} {{ enable_thinking is defined }}",
         "True True False True False"},
        {"{{ add_generation_prompt }} {{ bos_token }} {{ eos_token }} {{ none }}",
         "True <s> </s> None"},
        {"{{ foo|default('d') }} {{ ''|default('d', true) }} {{ ''|default('d') }}|{{ none|default(boolean=tru"
         "e, default_value='z') }}",
         "d d |z"},
        {"{{ '  pad '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ '  a '.lstrip() }}|{{ ' a  '.rstrip() }}|{{ ' a '"
         "|trim }}|{{ '\\u00e9a\\u00e9'.strip('\\u00e9') }}|{{ 12|trim }}|{{ '\\u3000\\u00a0x\\u2003'|trim }}|",
         "pad|a|a | a|a|a|12|x|"},
        {"{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.split(' ', 1) }} {{ ' a  b c '.split(non"
         "e, 1) }} {{ ''.split() }} {{ ''.split(',') }}",
         "['a', 'b', '', 'c'] ['a', 'b'] ['a', 'b c'] ['a', 'b c '] [] ['']"},
        {"{{ 'aXbXc'.replace('X', '-') }} {{ 'aXbXc'.replace('X', '', 1) }} {{ '\\u00e9b'.replace('', '.') }} "
         "{{ 'aaa'|replace('a', 'b', 2) }} {{ 'aaaa'.replace('aa', 'b') }}",
         "a-b-c abXc .\xc3\xa9.b. bba bb"},
        {"{{ 'Hello World'.upper() }} {{ 'Hello'|lower }} {{ 'hello wORLD'|capitalize }} {{ \"they're bill-jon"
         "es x1y\"|title }} {{ \"they're bill-jones x1y\".title() }}",
         "HELLO WORLD hello Hello world They're Bill-Jones X1y They'Re Bill-Jones X1Y"},
        {"{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'bc')) }} {{ 'abc'.startswith('') }} {{ ''.ends"
         "with('a') }} {{ 'abca'.find('a') }} {{ '\\u00e9bcab'.rfind('b') }} {{ 'abc'.find('x') }}",
         "True True True False 0 4 -1"},
        {"{{ 'hello'[1:3] }} {{ 'hello'[::-1] }} {{ 'h\\u00e9llo'[1] }} {{ 'h\\u00e9llo'[:-3] }} {{ [1,2,3,4]["
         "1:] }} {{ [1,2,3,4][::2] }} {{ [1,2,3,4][-2:-5:-1] }} {{ [1,2][5:] }} {{ (1,2,3)[:-1] }} {{ 'abc'[5]"
         " is defined }}",
         "el olleh \xc3\xa9 h\xc3\xa9 [2, 3, 4] [1, 3] [3, 2, 1] [] (1, 2) False"},
        {"{{ [1,2]|join }} {{ ['a','b']|join(', ') }} {{ [{'a': 1},{'a': 2}]|join('-', attribute='a') }} {{ ',"
         " '.join(['x','y']) }} {{ 'abc'|join('-') }}",
         "12 a, b 1-2 x, y a-b-c"},
        {"{{ [3,4]|first }} {{ [3,4]|last }} {{ []|first }}|{{ 'abc'|last }} {{ [1,2]|reverse|list }} {{ 'abc'"
         "|reverse }} {{ 'ab'|list }} {{ {'a':1}|list }} {{ {'a':1}|items|list }} {{ [1,2]|count }}",
         "3 4 |c [2, 1] cba ['a', 'b'] ['a'] [('a', 1)] 2"},
        {"{{ messages|map(attribute='role')|list }} {{ messages|map(attribute='nope', default='D')|join }} {{ "
         "['a','B']|map('upper')|list }} {{ ['a','b']|map('replace','a','x')|join }}",
         "['system', 'user', 'assistant', 'user'] DDDD ['A', 'B'] xb"},
        {"{{ messages|selectattr('role','equalto','user')|list|length }} {{ messages|rejectattr('role','eq','u"
         "ser')|map(attribute='role')|join(',') }} {{ messages|selectattr('tool_calls','undefined')|list|lengt"
         "h }} {{ tools|selectattr('x')|list }}",
         "2 system,assistant 4 []"},
        {"{{ [1,0,2]|select|list }} {{ [1,0,2]|reject|list }} {{ [1,2,3]|select('odd')|list }} {{ [1,2,3]|reje"
         "ct('gt', 1)|list }}",
         "[1, 2] [0] [1, 3] [1]"},
        {"{{ {'b': 1, 'a': [1, none, true, \"q\\\"\\n\\t\\u00e9</>&'\"]}|tojson }} {{ {'b': 1, 'a': [1, {}], '"
         "c': []}|tojson(indent=2) }} {{ 'x'|tojson(ensure_ascii=False) }} {{ {1: 2, none: 3}|tojson }}",
         "{\"b\": 1, \"a\": [1, null, true, \"q\\\"\\n\\t\xc3\xa9</>&'\"]} {\n  \"b\": 1,\n  \"a\": [\n    1,"
         "\n    {}\n  ],\n  \"c\": []\n} \"x\" {\"1\": 2, \"null\": 3}"},
        {"{{ '12'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ ' -42 '|int + 1 }} {{ true|int }} {{ none|int }} {{"
         " 5|string + 'x' }} {{ '<'|safe }}",
         "12 0 7 -41 1 0 5x <"},
        {"{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb\\n'|indent(2, blank=true) }}|"
         "{{ 'a\\nb'|indent('> ') }}",
         "a\n    b\n\n    c|  a\n  b|a\n  \n  b\n  |a\n> b"},
        {"{{ 1 is number }} {{ 'x' is string }} {{ {} is mapping }} {{ [] is iterable }} {{ 'x' is iterable }}"
         " {{ 1 is iterable }} {{ {} is sequence }} {{ foo is sequence }} {{ none is none }} {{ true is true }"
         "} {{ 1 is true }} {{ false is false }} {{ true is boolean }} {{ 1 is integer }} {{ 3 is odd }} {{ 4 "
         "is even }} {{ 6 is divisibleby 3 }} {{ 1 is eq 1 }} {{ 'a' is in ['a'] }} {{ range is callable }} {{"
         " foo is not defined }} {{ none is not none }}",
         "True True True True True False True True True True False True True True True True True True True Tru"
         "e True False"},
        {"{{ {'get': 1}.get('x', 'D') }} {{ {'a': 1}.get('b') }} {{ {'a':1}.keys()|list }} {{ {'a':1}.values()"
         "|list }} {{ {'items': 3}['items'] }} {{ dict(a=1, b=2) }} {{ dict({'z': 1}, a=2) }}",
         "D None ['a'] [1] 3 {'a': 1, 'b': 2} {'z': 1, 'a': 2}"},
        {"{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.length }}{{ loop.first }}{{ loop.las"
         "t }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}",
         "103TrueFalse321 213FalseFalse2102 323FalseTrue101 "},
        {"{% for i in range(1, 10, 3) %}{{ i }}{% if i == 4 %}{% continue %}{% endif %}-{% endfor %}|{% for i "
         "in range(10, 0, -4) %}{{ i }},{% endfor %}",
         "1-47-|10,6,2,"},
        {"{% for i in range(10) if i % 2 %}{{ i }}{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}|{"
         "% for i in [] %}x{% else %}empty{% endfor %}{% for i in [1] %}{% break %}{% else %} kept{% endfor %}",
         "135|empty kept"},
        {"{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %} {% f"
         "or (a, b), c in [((1,2),3)] %}{{ a }}{{ b }}{{ c }}{% endfor %} {% for c in 'h\\u00e9' %}[{{ c }}]{%"
         " endfor %}{% for c in foo %}x{% endfor %}",
         "a=1,b=2 123 [h][\xc3\xa9]"},
        {"{% for a in [1,2] %}{% for b in [3,4] %}{{ loop.index }}{{ a }}{{ b }}{% if b == 3 %}{% continue %}{"
         "% endif %}!{% endfor %}{{ loop.index }};{% endfor %}",
         "113214!1;123224!2;"},
        {"{% set x = 1 %}{% for i in [1,2] %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}",
         "12;13;1"},
        {"{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% set z = 5 %}{% endfo"
         "r %}{{ ns.n }}{{ z }}{{ ns.q is defined }}",
         "4False"},
        {"{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x %}bl{{ a }}ck{% endset %}{{ x }}{% set (c, d) = 'xy' %}{"
         "{ c }}{{ d }}",
         "12bl1ckxy"},
        {"{% if false %}{% elif none %}a{% elif 1 %}b{% else %}c{% endif %}{% if true %}{% set q = 1 %}{% endi"
         "f %}{{ q }}",
         "b1"},
        {"{% macro m(a, b='B', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2, c=3) }}{{ m"
         "(b=1) }}{{ m('x') + 'y' }}",
         "<1BNone><123><1None><xBNone>y"},
        {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
         "543210"},
        {"{% set g = 'out' %}{% macro m() %}{{ g }}{% set g = 'in' %}{{ g }}{% endmacro %}{{ m() }}{{ g }}",
         "outinout"},
        {"{% generation %}{% set gg = 1 %}in{{ gg }}{% endgeneration %}[{{ gg }}]",
         "in1[]"},
        {"{{ messages[0].content.split(' ')[0].upper()|lower }} {{ (messages|first).role }} {{ messages[0]['ro"
         "le']['upper']() }}",
         "be system SYSTEM"},
        {"{{ '{{ }} {% %} {# #}' }}{# {{ x }} {% if %} #}{% if '%}' %}{{ '}}' }}{% endif %}",
         "{{ }} {% %} {# #}}}"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) expect(cases[i][0], cases[i][1]);
}

/* what later additions to the subset give, as Jinja2 renders it */
static void test_constructs(void)
{
    static const char *const cases[][2] = {
        {"{% raw %}{{ x }} {% if %} {# c #}{% endraw %}|",
         "{{ x }} {% if %} {# c #}|"},
        {"a\n  {% raw %}\n  b {{ x }}\n  {% endraw %}\nc",
         "a\n\n  b {{ x }}\nc"},
        {"a\n  {%- raw -%}\n  b {{ x }}\n  {%- endraw -%}\nc",
         "ab {{ x }}c"},
        {"a {%+ raw %} b {%+ endraw +%}\nc",
         "a  b \nc"},
        {"a\n   {% raw -%}   \n  x\n   {%+ endraw %}\nc {% raw %}{% endraw %}d",
         "a\nx\n   c d"},
        {"{% raw %}a{% raw %}b{% endraw %}c",
         "a{% raw %}bc"},
        {"{% macro w(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call w('b') %}in{{ messages|"
         "length }}{% endcall %}",
         "<b>in4</b>"},
        {"{% macro l(items) %}{% for i in items %}{{ caller(i, loop.index) }};{% endfor %}{% endmacro %}"
         "{% call(x, n) l([3,4]) %}{{ n }}:{{ x }}{% endcall %}",
         "1:3;2:4;"},
        {"{% macro l() %}{% if caller %}C{{ caller() }}{% else %}none{% endif %}{% endmacro %}{{ l() }}{"
         "% call l() %}x{% endcall %}",
         "noneCx"},
        {"{% macro v(a) %}{{ a }}|{{ varargs }}|{{ kwargs }}{% endmacro %}{{ v(1,2,3,x=4) }}{{ v(1) }}",
         "1|(2, 3)|{'x': 4}1|()|{}"},
        {"{% macro v(a, b=a) %}{{ a }}|{{ b }}{% endmacro %}{{ v(1) }}{{ v(*[1,2]) }}{{ v(**{'a':1,'b':3"
         "}) }}{{ v(1, *[5]) }}",
         "1|11|21|31|5"},
        {"{% filter upper %}abc {{ messages[0].role }}{% endfilter %}",
         "ABC SYSTEM"},
        {"{% filter replace('a','b')|trim %}  abca {% endfilter %}|",
         "bbcb|"},
        {"{% set x | trim | upper %}  ab {% endset %}[{{ x }}]",
         "[AB]"},
        {"{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
         "12False"},
        {"{% set a=5 %}{% with a=1, b=a %}{{ a }}{{ b }}{% set c=3 %}{% endwith %}{{ a }}{{ c is defined"
         " }}",
         "155False"},
        {"{% with %}{% set z=1 %}{{ z }}{% endwith %}{{ z is defined }}",
         "1False"},
        {"{% for x in [[1,[2,[3]]],[4]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x "
         "}}@{{ loop.depth }}{{ loop.depth0 }}{% endif %}{% endfor %}",
         "(1@21(2@32(3@43)))(4@21)"},
        {"{% for n in [{'v':1,'c':[{'v':2,'c':[]},{'v':3,'c':[]}]}] recursive %}{{ loop.index }}.{{ n.v "
         "}}{% if n.c %}[{{ loop(n.c) }}]{% endif %}{% endfor %}",
         "1.1[1.22.3]"},
        {"{% for x in [1,2,3,4] %}{{ loop.cycle('a','b','c') }}{% endfor %}",
         "abca"},
        {"{% for x in [1,1,2,2,1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}",
         "121"},
        {"{% for x in [1,2] %}{% for y in [1] %}{{ loop.depth }}{% endfor %}{{ loop.depth }}{% endfor %}",
         "1111"},
        {"{% for m in messages|selectattr('role','equalto','user') %}{{ loop.index }}/{{ loop.length }} "
         "{{ loop.last }}{% endfor %}",
         "1/2 False2/2 True"},
        {"{% set u = messages|selectattr('role','equalto','user') %}{% for m in u %}1{% endfor %}{% for "
         "m in u %}2{% endfor %}",
         "11"},
        {"{% set u = messages|selectattr('role','equalto','nobody') %}{% if u %}yes{% else %}no{% endif "
         "%}",
         "yes"},
        {"{{ (messages|selectattr('role','equalto','user'))[0] }}",
         ""},
        {"{{ (messages|selectattr('role','equalto','user')|list)[0].content }}",
         "Hi"},
        {"{% set u = messages|map(attribute='role') %}{{ u|first }}{{ u|first }}{{ 'user' in u }}{{ u|li"
         "st }}",
         "systemuserTrue[]"},
        {"{% set d={'a':1,'b':2} %}{{ d.items()|length }}{{ d.items()|list }}{{ d.keys()|join(',') }}{{ "
         "d.values()|sum }}{% for k,v in d.items() %}{{ k }}{{ v }}{{ loop.last }}{% endfor %}{{ 'a' in "
         "d.keys() }}{% if {}.items() %}y{% else %}n{% endif %}",
         "2[('a', 1), ('b', 2)]a,b3a1Falseb2TrueTruen"},
        {"{{ 1/2 }} {{ 7//2 }} {{ -7//2 }} {{ 7.5//2 }} {{ -7.5%2 }} {{ 2**10 }} {{ 2**-1 }} {{ 2**0.5 }"
         "} {{ 10/5 }} {{ 1e3 }} {{ 1.0e-7 }} {{ 123456789012345678.0 }} {{ 0.1+0.2 }} {{ 1e16 }} {{ 1e1"
         "5 }} {{ 5.0 }}",
         "0.5 3 -4 3.0 0.5 1024 0.5 1.4142135623730951 2.0 1000.0 1e-07 1.2345678901234568e+17 0.3000000"
         "0000000004 1e+16 1000000000000000.0 5.0"},
        {"{{ 2**3**2 }} {{ -2**2 }} {{ (-2)**2 }} {{ 2**-1|abs }}",
         "64 4 4 2"},
        {"{{ 3.7|int }} {{ '3.7'|int }} {{ '3.7'|float }} {{ 'x'|float }} {{ 'x'|float(1.5) }} {{ 2.5|ro"
         "und }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 42|round }} {{ 42.1|round(0,'ceil') }} {{ -3.2|"
         "abs }} {{ (-3.2)|abs }} {{ '1e3'|int }} {{ ' 12 '|int }} {{ '+5'|int }} {{ '-0'|int }} {{ '.5'"
         "|float }} {{ '5.'|float }} {{ '1e-2'|float }} {{ '-1.5E+2'|float }} {{ '.'|float(9) }} {{ '1e'"
         "|float(9) }} {{ '1.2.3'|float(9) }}",
         "3 3 3.7 0.0 1.5 2.0 4.0 2.67 42 43.0 3.2 3.2 1000 12 5 0 0.5 5.0 0.01 -150.0 9 9 9"},
        {"{{ [3,1,2]|sort }} {{ ['b','A','c']|sort }} {{ ['b','A','c']|sort(case_sensitive=true) }} {{ ["
         "3,1,2]|sort(reverse=true) }} {{ {'b':1,'A':2}|dictsort }} {{ {'b':1,'A':2}|dictsort(by='value'"
         ") }} {{ {'b':1,'A':2}|dictsort(true) }} {{ {'b':1,'A':2}|dictsort(reverse=true) }}",
         "[1, 2, 3] ['A', 'b', 'c'] ['A', 'b', 'c'] [3, 2, 1] [('A', 2), ('b', 1)] [('b', 1), ('A', 2)] "
         "[('A', 2), ('b', 1)] [('b', 1), ('A', 2)]"},
        {"{{ ['a','A','b']|unique|list }} {{ ['a','A','b']|unique(true)|list }} {{ [1,1.0,true,2]|unique"
         "|list }} {{ [3,1]|min }} {{ ['b','A']|max }} {{ []|max }}| {{ [1,2,3,4,5]|batch(2)|list }} {{ "
         "[1,2,3]|batch(2,0)|list }}",
         "['a', 'b'] ['a', 'A', 'b'] [1, 2] 1 b | [[1, 2], [3, 4], [5]] [[1, 2], [3, 0]]"},
        {"{{ '%s and %d, %05.2f%%' % ('a', 3, 2.5) }} {{ '%s' % 'x' }} {{ '%5s|%-5s|' % ('a','b') }} {{ "
         "\"%s-%s\"|format('a', 1) }} {{ '%s' % none }} {{ '%d' % 3.9 }} {{ '%05d' % -42 }} {{ '%i' % tr"
         "ue }}",
         "a and 3, 02.50% x     a|b    | a-1 None 3 -0042 1"},
        {"{{ '{} {}'.format(1,'b') }} {{ '{0}{1}{0}'.format('a','b') }} {{ '{x}'.format(x=3) }} {{ '{{}}"
         "{}'.format(none) }}",
         "1 b aba 3 {}None"},
        {"{{ 'a,b,c'.rsplit(',',1) }} {{ 'abc'.partition('b') }} {{ 'a.b.c'.rpartition('.') }} {{ 'abc'."
         "partition('x') }} {{ 'abc'.rpartition('x') }} {{ 'a\\nb\\r\\nc\\n'.splitlines() }} {{ 'a\\nb\\"
         "n\\n'.splitlines(true) }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.py'.removesuffix('.py"
         "') }}",
         "['a,b', 'c'] ('a', 'b', 'c') ('a.b', '.', 'c') ('abc', '', '') ('', '', 'abc') ['a', 'b', 'c']"
         " ['a\\n', 'b\\n', '\\n'] x x"},
        {"{{ 'abcabc'.count('bc') }} {{ 'aaa'.count('aa') }} {{ 'abc'.count('') }} {{ 'abc'.index('c') }"
         "} {{ [1,2,1].count(1) }} {{ [1,2].index(2) }} {{ (1,2).index(2) }} {{ [1,true,1.0].count(1) }}",
         "2 1 4 2 2 1 1 3"},
        {"{{ 'abc'.isalpha() }} {{ 'a1'.isalnum() }} {{ '12'.isdigit() }} {{ ''.isdigit() }} {{ ' '.issp"
         "ace() }} {{ 'aB'.islower() }} {{ 'AB1'.isupper() }} {{ '1'.isupper() }} {{ '7'.zfill(3) }} {{ "
         "'-7'.zfill(3) }} {{ 'ab'.center(5,'*') }} {{ 'abc'.center(6) }}| {{ 'a'.ljust(3) }}| {{ 'a'.rj"
         "ust(3) }} {{ 'x'|center(6) }}|",
         "True True True False True False True False 007 -07 **ab*  abc  | a  |   a   x   |"},
        {"{{ '\303\251\303\200'.upper() }} {{ '\303\211\303\200'|lower }} {{ '\320\277\321\200\320\270"
         "\320\262\320\265\321\202 \320\274\320\270\321\200'|title }} {{ '\320\237\320\240\320\230\320"
         "\222\320\225\320\242'|capitalize }} {{ '\316\261\316\262\316\263'|upper }} {{ '\344\270\255"
         "\346\226\207abc'|upper }} {{ '\344\270\255a ba'.title() }} {{ '\305\202\303\263d\305\272'|uppe"
         "r }} {{ '\305\276lu\305\245'|capitalize }} {{ '\304\215'.title() }}",
         "\303\211\303\200 \303\251\303\240 \320\237\321\200\320\270\320\262\320\265\321\202 \320\234"
         "\320\270\321\200 \320\237\321\200\320\270\320\262\320\265\321\202 \316\221\316\222\316\223 "
         "\344\270\255\346\226\207ABC \344\270\255A Ba \305\201\303\223D\305\271 \305\275lu\305\245 \304"
         "\214"},
        {"{{ '\\b\\f\\x1f\\x7f/\\u2028'|tojson }} {{ '\303\251\360\237\230\200'|tojson(ensure_ascii=true"
         ") }} {{ {'a':1.5,'b':[1e20, 0.1, none, true]}|tojson }} {{ {'a':1}|tojson(separators=(',',':')"
         ") }} {{ {'a':[1,2]}|tojson(indent=4, separators=(',',': ')) }}",
         "\"\\b\\f\\u001f\177/\342\200\250\" \"\\u00e9\\ud83d\\ude00\" {\"a\": 1.5, \"b\": [1e+20, 0.1, "
         "null, true]} {\"a\":1} {\n    \"a\": [\n        1,\n        2\n    ]\n}"},
        {"{{ ['\\u00a0', '\\u200b', '\\x00', '\\u2028', '\\ue000', '\303\251', '\\U0001F600', '\\ufeff']"
         " }}",
         "['\\xa0', '\\u200b', '\\x00', '\\u2028', '\\ue000', '\303\251', '\360\237\230\200', '\\ufeff']"},
        {"{{ x is sameas none }} {{ none is sameas none }} {{ 1.5 is float }} {{ 1 is float }} {{ 1.0 is"
         " number }} {{ 'a' is lower }} {{ 'A' is upper }} {{ 1.0 == 1 }} {{ 1.5 > 1 }} {{ [1,2] < [1,3]"
         " }} {{ (1,) < (1,2) }}",
         "False True True False True True True True True True True"},
        {"{{ [1,2]|reverse|first }} {{ 'ab'|reverse }} {{ [1,2,3]|reverse|list|tojson }} {{ {'a':1,'b':2"
         "}|reverse|list }}",
         "2 ba [3, 2, 1] ['b', 'a']"},
        {"{{ dict([('a',1),('b',2)]) }} {{ dict(a=1, **{'b':2}) }} {{ namespace(**{'x':1}).x }} {{ {'a':"
         "1}.copy() }}",
         "{'a': 1, 'b': 2} {'a': 1, 'b': 2} 1 {'a': 1}"},
        {"{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{% set ns.x %}block{% endset %}{{ ns.x }"
         "}",
         "1block"},
        {"{{ '<'|safe ~ '&' }} {{ 'a'|safe == 'a' }} {{ '<b>'|safe + '<\\'&\"' + '>'|safe }} {{ ('<' + '>'|safe) + '&' }}"
         " {{ 'x' in ['x'|safe] }}",
         "<& True <b>&lt;&#39;&amp;&#34;> &lt;>&amp; True"},
        {"{{ 'a'|safe }} {{ ('a'|safe)|length if false }} {% set z = '<x>'|safe %}{{ z }}",
         "a  <x>"},
        {"{{ messages.0.role }} {{ messages[0]['role'] }} {{ [[1,2],[3,4]].1.0 }}",
         "system system 3"},
        {"{{ 'x' * 3 }} {{ 3 * 'x' }} {{ [1] * 2 }} {{ 2 * (1,2) }} {{ 'x' * 0 }}| {{ [0] * -1 }}",
         "xxx xxx [1, 1] (1, 2, 1, 2) | []"},
        {"{{ -5|abs }} {{ not 5|abs == 5 }} {{ 5 is odd and true }} {{ 3 in [1,2,3] and not 4 in [1] }}",
         "5 False True True"},
        {"{{ 1 if none else 2 }}{{ 'a' 'b' }}{{ (\"a\" ~ 1.0 ~ none ~ true) }}",
         "2aba1.0NoneTrue"},
        {"{%- for i in [1,2,3] -%}\n  {{- i -}}\n  {%- if not loop.last %}, {% endif -%}\n{%- endfor -%}",
         "1, 2, 3"},
        {"{% if true -%}\n   a\n{%- elif x %}\nb\n{%- endif +%}\n\nc",
         "a\n\nc"},
        {"{% set x = [] %}{% set x = x + [1] %}{% set x = x + [2] %}{{ x }}",
         "[1, 2]"},
        {"{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% else %}E{% endfor %}",
         "02"},
        {"{% for i in [] %}{% else %}E{% endfor %}{% for i in [1] %}{% break %}{% else %}F{% endfor %}",
         "EF"},
        {"{% for k in {'a':1} %}{{ k }}{% endfor %}{% for a,b in [(1,2),(3,4)] if a > 1 %}{{ a }}{{ b }}"
         "{{ loop.index }}{% endfor %}",
         "a341"},
        {"{{ messages|map(attribute='content')|map('length')|list }} {{ messages|map(attribute='content."
         "0')|list }}",
         "[9, 2, 12, 7] ['B', 'H', 'H', ' ']"},
        {"{{ '' if messages[-1].content else raise_exception('boom: ' ~ 1.5) }}",
         ""},
        {"{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}"
         "{% endfor %}{{ x }}",
         "22"},
        {"{{ 'abc'|list|join('-') }} {{ 'a b'|wordcount if false }} {{ 'abc'[::-1] }} {{ 'abc'[-2:] }} {"
         "{ [1,2,3,4,5][1:4:2] }}",
         "a-b-c  cba bc [2, 4]"},
        {"{{ messages[0].items()|list }} {{ messages[0]|items|list }} {{ messages[0]|dictsort }} {{ mess"
         "ages[0]|tojson }}",
         "[('role', 'system'), ('content', 'Be brief.')] [('role', 'system'), ('content', 'Be brief.')] "
         "[('content', 'Be brief.'), ('role', 'system')] {\"role\": \"system\", \"content\": \"Be brief."
         "\"}"},
        {"{{ messages|tojson }}",
         "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \"Hi\"}"
         ", {\"role\": \"assistant\", \"content\": \"Hello, you!\\n\"}, {\"role\": \"user\", \"content\""
         ": \" caf\303\251? \"}]"},
        {"{{ [1.0, 2.50, -0.0, 1e-5, 1e-4, 123456.789, 1e22, 1.7976931348623157e308, 5e-324] }}",
         "[1.0, 2.5, -0.0, 1e-05, 0.0001, 123456.789, 1e+22, 1.7976931348623157e+308, 5e-324]"},
        {"{{ 'a' in 'abc' }} {{ '' in 'abc' }} {{ 'b' not in {'b':1} }} {{ none in [none] }} {{ undefine"
         "d_x in [1] }}",
         "True True False True False"},
        {"{% macro a() %}{% macro b() %}in{% endmacro %}{{ b() }}{% endmacro %}{{ a() }}{{ b is defined "
         "}}",
         "inFalse"},
        {"{% set f = raise_exception %}{{ f is callable }}{{ f is defined }}",
         "TrueTrue"},
        {"{{ [[1,'a'],[2,'b']]|map('first')|list }} {{ [[1,'a'],[2,'b']]|map('last')|join }} {{ [{'a':1}"
         "]|map(attribute='b')|first is defined }}",
         "[1, 2] ab False"},
        {"{{ messages[0]|length }} {{ messages[0]|list }} {{ messages[0]|first }} {{ messages[0]|last }}",
         "2 ['role', 'content'] role content"},
        {"{{ ' a '|trim ~ '|' }} {{ 'xax'|trim('x') }} {{ '\\u3000a\\u2003'|trim ~ '|' }} {{ '\\x1fa\\x8"
         "5'|trim ~ '|' }}",
         "a| a a| a|"},
        {"{{ [none, 1]|select('none')|list }} {{ [1,2,3,4]|select('divisibleby', 2)|list }} {{ ['a','b']"
         "|select('in', ['a'])|list }} {{ [1,'a']|reject('string')|list }}",
         "[None] [2, 4] ['a'] [1]"},
        {"{{ 1 < 2 > 1 != 3 }} {{ 1 == 1.0 == true }}",
         "True True"},
        {"{{ 'ab'.join('xyz') }} {{ ', '.join({'a':1}) }} {{ ''.join(['a']) }}",
         "xabyabz a a"},
        {"{% for x in 'ab' %}{{ loop.previtem is defined }}{{ loop.nextitem|default('-') }}{% endfor %}",
         "FalsebTrue-"},
        {"{{ {'a':1,'a':2} }} {{ {1:'x', 1.0:'y'} }} {{ {(1,2):3}[(1,2)] }}",
         "{'a': 2} {1: 'y'} 3"},
        {"{{ true + 1 }} {{ true == 1 }} {{ true is number }} {{ true is integer }} {{ -true }} {{ 5 - 2"
         ".5 }} {{ 6 / 3 * 2 }}",
         "2 True True False -1 2.5 4.0"},
        {"{% generation %}x{{ messages|length }}{% endgeneration %}",
         "x4"},
        {"{% for i in [1,2] %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}",
         "1122"},
        {"{% set x = 'a' if false %}[{{ x }}]{{ x is defined }}",
         "[]False"},
        {"{{ messages[0].__class__ }}|{{ ''.__class__ is defined }}",
         "|False"},
        {"{% for m in messages %}{% if loop.first and m.role == 'system' %}S{{ m.content }}{% elif m['ro"
         "le'] == 'user' and not loop.last %}U{{ m.content }}{% endif %}{% endfor %}",
         "SBe brief.UHi"},
        {"{{ messages[:-1]|length }}{{ messages[1:][0].role }}{{ messages[::2]|map(attribute='role')|joi"
         "n }}",
         "3usersystemassistant"},
        {"{% if messages[-1]['content'] is not string %}x{% endif %}{% if 'tool_calls' in messages[0] %}"
         "x{% endif %}{{ messages[0].tool_calls is defined }}{{ messages[0].get('tool_calls') is none }}",
         "FalseTrue"},
        {"{{ 'A' ~ ('b' if 1 > 2 else 'c') ~ [1,2][0] ~ {'k':'v'}.k }}\n",
         "Ac1v"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) expect(cases[i][0], cases[i][1]);
}

/* today, in pieces that add up however the test is timed */
static void test_date(void)
{
    static const char *const formats[][2] = {{"%d %b %Y", "## @@@ ####"}, {"%Y-%m-%d", "####-##-##"},
                                             {"%F %T", "####-##-## ##:##:##"}, {"%H:%M:%S %p", "##:##:## @@"},
                                             {"%y %j %I %%", "## ### ## %"}, {"%a, %h", "@@@, @@@"}};
    awq_template_desc d;
    char source[64], out[256], year[16];
    struct tm tm = awq__local_time();
    size_t i, k;
    memset(&d, 0, sizeof d);
    for (i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        snprintf(source, sizeof source, "{{ strftime_now('%s') }}", formats[i][0]);
        CHECK(!render(source, talk, 4, &d, out, sizeof out));
        CHECK_MSG(strlen(out) == strlen(formats[i][1]), "%s: %s", source, out);
        for (k = 0; out[k] && formats[i][1][k]; k++) {
            char c = formats[i][1][k];
            CHECK(c == '#' ? awq__tp_digit(out[k]) : c == '@' ? awq__tp_word(out[k]) : c == out[k]);
        }
    }
    CHECK(!render("{{ strftime_now('%Y') }}", talk, 4, &d, out, sizeof out));
    snprintf(year, sizeof year, "%d", tm.tm_year + 1900);
    CHECK(atoi(out) - atoi(year) <= 1);
    CHECK(!render("{{ strftime_now('%-d').lstrip('0') == strftime_now('%d').lstrip('0') }}"
                  "{{ strftime_now('%e')|trim == strftime_now('%-d') }}{{ strftime_now('%B')|length > 2 }}"
                  "{{ strftime_now('%A')[-3:] }}", talk, 4, &d, out, sizeof out));
    CHECK(!strcmp(out, "TrueTrueTrueday"));
}

static void test_whitespace(void)
{
    static const char *const cases[][2] = {
        {"a\n  {% if true %}\n   x\n  {% endif %}\n  y {%- if true -%}  z  {%- endif %} w\n",
         "a\n   x\n  yz w"},
        {"{#- c -#}  t {# c #}\n\n  {#+ c +#}\n  {%+ if true +%}\nq\n  {%- endif +%}\n\ne\n\n",
         "t \n  \n  \nq\n\ne\n"},
        {"\t {% set a = 1 %}\t {{ a -}}   {{- a }}\n{{ 'x' -}}\n\n  {% if 1 %}\nl\n{% endif -%}\n\n z",
         "\t 11\nxl\nz"},
        {"a\r\nb\r{% if 1 %}\r\nc\r\n{% endif %}\r\n",
         "a\nb\nc\n"},
        {"  {# x #}  \n  {# y #}\n{{ 1 }}  {# z #} \n",
         "  \n1   "},
        {"  {% set x = 1 %}  {% set y = 2 %}\nz",
         "  z"},
        {"x\n  {{ 1 }}\n  {% if 1 %}{{ 2 }}\n  {% endif %}",
         "x\n  1\n2\n"},
        {"",
         ""},
        {"\n",
         ""},
        {"\n\n",
         "\n"},
        {"x\n\n",
         "x\n"},
        {"{{ 1 -}}\n  {% if 1 %}a{% endif %}",
         "1a"},
        {"\xc2\xa0{% if 1 %}x{% endif %}\xe3\x80\x80{%- if 1 -%}\xe2\x80\x83y{% endif %}",
         "xy"},
        {"{% if 1 %}\n\n x {% endif %}\n\n",
         "\n x "},
        {"{# a #}{# b #}\n c",
         " c"},
        {"  {%- if 1 %} x{% endif %}",
         " x"},
        {"{%if true%}a{%endif%}{%-if true-%} b {%-endif-%} c",
         "abc"},
        {"{#-#}x{#--#}  y {#+#}",
         "xy "},
        {"{",
         "{"},
        {"a{",
         "a{"},
        {"{ %",
         "{ %"},
        {"}}",
         "}}"},
        {"%}",
         "%}"},
        {"{% if 1: %}x{% endif %}",
         "x"},
        {"{% for m in messages %}\n{% if loop.first %}\n{{ m.role }}\n{% endif %}\n{% endfor %}",
         "system\n"},
        {"{{ 'a' }}\n{{ 'b' }}\n",
         "a\nb"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) expect(cases[i][0], cases[i][1]);
}

static void test_templates(void)
{
    static const awq_message turns[] = {{"user", "a", NULL}, {"user", "b", NULL}};
    awq_template_desc d;
    char out[4096];
    expect(chatml, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                   "<|im_start|>assistant\nHello, you!\n<|im_end|>\n"
                   "<|im_start|>user\n caf\xc3\xa9? <|im_end|>\n<|im_start|>assistant\n");
    memset(&d, 0, sizeof d);
    d.bos_token = "<s>";
    d.add_generation_prompt = 1;
    d.date_string = "1 May";
    CHECK(!render(headers, talk, 4, &d, out, sizeof out));
    CHECK(!strcmp(out, "<s><|start_header_id|>system<|end_header_id|>\n\nToday: 1 May\n\nBe brief.<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\nHello, you!<|eot_id|>"
                       "<|start_header_id|>user<|end_header_id|>\n\ncaf\xc3\xa9?<|eot_id|>"
                       "<|start_header_id|>assistant<|end_header_id|>\n\n"));
    expect(inst, "<s>[INST] Hi [/INST] Hello, you!</s>[INST] Be brief.\n\ncaf\xc3\xa9? [/INST]");
    memset(&d, 0, sizeof d);
    CHECK(!render(chatml, turns, 1, &d, out, sizeof out));
    CHECK(!strcmp(out, "<|im_start|>system\nA default.<|im_end|>\n<|im_start|>user\na<|im_end|>\n"));
    d.add_generation_prompt = 1;
    d.enable_thinking = 1;
    CHECK(!render(chatml, turns, 0, &d, out, sizeof out) || strstr(out, "undefined")); /* messages[0] of none */
    CHECK(!render(chatml, turns, 1, &d, out, sizeof out) && strstr(out, "<|im_start|>assistant\n")[22] == 0);
    d.enable_thinking = -1;
    CHECK(!render(chatml, turns, 1, &d, out, sizeof out) && strstr(out, "assistant\n<think>\n\n</think>\n\n"));
    d.date_string = "1 May 2025";
    CHECK(!render(headers, turns, 1, &d, out, sizeof out));
    CHECK(strstr(out, "\n\nToday: 1 May 2025\n\n<|eot_id|>") == out + 42);
    CHECK(!render("{{ strftime_now('%Y') }}{{ date_string }}{{ enable_thinking }}", turns, 1, &d, out,
                  sizeof out));
    CHECK(!strcmp(out, "1 May 20251 May 2025False"));
    CHECK(render(inst, turns, 2, NULL, out, sizeof out) == AWQ_E_ARG);
    CHECK(!strcmp(out, "chat template: user and assistant must take turns, not user"));
}

static void test_syntax_errors(void)
{
    static const char *const cases[][2] = {
        {"a\n{% if %}", "line 2: '%}' where an expression"}, {"{% for x in %}", "an expression"},
        {"{{ }}", "an expression"}, {"{{ 1 + }}", "an expression"}, {"{{ (1 }}", "unexpected '}'"},
        {"{{ [1", "ends inside a tag"}, {"{{ (1", "ends inside a tag"}, {"{% endif %}", "'endif' where"},
        {"{% if true %}\n\n", "line 2: the template ends"}, {"{% foo %}", "'foo' where a tag"},
        {"\n\n{{ 'abc }}", "line 3: a string without"}, {"{# abc", "a comment without"}, {"{{ a b }}", "'b'"},
        {"{{ a.1b }}", "'b'"}, {"{% set 1 = 2 %}", "a name"}, {"{% set true = 2 %}", "cannot be assigned"},
        {"{% for loop in [1] %}{% endfor %}", "cannot be assigned"}, {"{% break %}", "outside a loop"},
        {"{% for x in [1] %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", "outside a loop"},
        {"{{ x is defined is defined }}", "something else"}, {"{{ f(a=1, 2) }}", "keyword"}, {"{{ ] }}", "']'"},
        {"{{ {'a' 1} }}", "':'"}, {"{% else %}", "'else'"}, {"{{ ~ }}", "'~'"}, {"{{ a! }}", "character '!'"},
        {"{{ \xc3\xa9 }}", "character '\xc3\xa9'"}, {"{{ \xff }}", "character"}, {"{{ a[] }}", "an index"},
        {"{{ a[1:2:3:4] }}", "']'"}, {"{{ '\\x4' }}", "malformed \\x"}, {"{{ '\\ud83d' }}", "malformed \\u"},
        {"{{ '\\U00110000' }}", "malformed \\U"}, {"{% set x %}", "endset"}, {"{% macro m %}", "'('"},
        {"{% macro m(1) %}", "a name"}, {"{{ a | }}", "a name"}, {"{{ a is }}", "a name"},
        {"{% for x %}", "'in'"},
        {"{% for 1 in x %}", "a name"}, {"{% set x.y.z = 1 %}", "'.'"}, {"{{ 1 | f.g }}", "a filter"},
        {"{% if x %}{% else %}{% elif y %}{% endif %}", "'elif'"}, {"{{", "ends inside"},
        {"{%", "ends inside"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) expect_error(cases[i][0], AWQ_E_FORMAT, cases[i][1]);
}

static void test_value_errors(void)
{
    static const char *const cases[][2] = {
        {"a\n{{ foo.bar }}", "line 2: 'foo' is undefined and cannot be asked for 'bar'"},
        {"{{ messages[9].role }}", "an item"}, {"{{ foo + 'x' }}", "'foo' is undefined"},
        {"{{ 'x' + 1 }}", "'+' between str and int"}, {"{{ none.x.y }}", "'x' is undefined"},
        {"{{ 1 // 0 }}", "division"}, {"{{ 1 % 0 }}", "division"}, {"{{ none() }}", "none cannot be called"},
        {"{{ 'x'.nope() }}", "'nope' is undefined"}, {"{% for a, b in [(1,2,3)] %}{% endfor %}", "3 values"},
        {"{% for a in 5 %}{% endfor %}", "iterated"}, {"{{ none|length }}", "measured"},
        {"{{ 'a' in 5 }}", "searched"},
        {"{{ 5 in 'a' }}", "looked for"}, {"{{ 'a' < 1 }}", "compared"},
        {"{{ foo < 1 }}", "'foo' is undefined"},
        {"{% set x = 1 %}{% set x.y = 1 %}", "only a namespace"}, {"{{ foo|tojson }}", "undefined"},
        {"{{ foo|int }}", "'foo'"}, {"{{ [1]|round }}", "rounded"}, {"{{ [1]|select|length }}", "measured"},
        {"{{ [1]|select|tojson }}", "generator"}, {"{{ [] in {} }}", "a key"},
        {"{{ ','.join([1]) }}", "joined"},
        {"{{ 1 / 0 }}", "division"}, {"{{ 1.5 % 0 }}", "division"}, {"{{ 0 ** -1 }}", "power"},
        {"{{ '%s' % (1, 2) }}", "fewer"}, {"{{ '%s %s' % 1 }}", "more"}, {"{{ '%d' % 'a' }}", "number"},
        {"{{ '{}'.format() }}", "not given"}, {"{{ [2, 'a']|sort }}", "compared"},
        {"{{ [].index(1) }}", "index"},
        {"{{ [1]|last|last }}", "iterated"}, {"{{ ([1]|select)|last }}", "backwards"},
        {"{{ f(**1) }}", "named arguments"}, {"{% raw %}", "raw without"},
        {"{% call 1 %}{% endcall %}", "a call"},
        {"{% with a %}{% endwith %}", "'='"}, {"{% for x in [1] %}{{ loop([2]) }}{% endfor %}", "called"},
        {"{{ 'x'[::0] }}", "a step"}, {"{{ 'x'['a':] }}", "slices"}, {"{{ none[1:] }}", "sliced"},
        {"{{ {[1]: 2} }}", "a key"}, {"{{ dict([1]) }}", "iterated"}, {"{{ dict(1) }}", "a dict"},
        {"{{ dict([(1, 2, 3)]) }}", "a key and its value"}, {"{{ namespace({1: 2}) }}", "an attribute"},
        {"{{ range() }}", "range"}, {"{{ range('a') }}", "range"}, {"{{ range(1, 2, 0) }}", "range"},
        {"{{ 'a'.split('') }}", "split"}, {"{{ 'a'.split(1) }}", "split"}, {"{{ 'a'.strip(1) }}", "a str"},
        {"{{ 'a'.replace('b') }}", "'new'"}, {"{{ 'a'.startswith(1) }}", "looked for"},
        {"{{ 1|indent }}", "indented"},
        {"{{ 1|items }}", "items"}, {"{{ 'a' is odd }}", "divided"}, {"{{ [1]|map }}", "map without"},
        {"{{ [1]|selectattr }}", "attribute"}, {"{{ [1]|map(1) }}", "the name"}, {"{{ -'a' }}", "'-' between"},
        {"{{ [1]|map(attribute=none)|list }}", "attribute"}, {"{{ {(1, 2): 3}|tojson }}", "a key"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) expect_error(cases[i][0], AWQ_E_FORMAT, cases[i][1]);
    expect_error("{{ raise_exception('no: ' ~ [1]) }}", AWQ_E_ARG, "chat template: no: [1]");
}

static void test_unsupported(void)
{
    static const char *const cases[][2] = {
        {"\n{% block x %}{% endblock %}", "line 2: the tag 'block'"}, {"{% include 'x' %}", "'include'"},
        {"{{ a[1, 2] }}", "tuple"}, {"{{ 1 | nofilter }}", "'nofilter'"}, {"{{ 1 is notest }}", "'notest'"},
        {"{{ '<'|e }}", "the filter 'e'"}, {"{{ [1]|map('nope')|list }}", "nope"},
        {"{{ 'a'.swapcase() }}", "'swapcase' of a str"}, {"{{ [].append(1) }}", "'append' of a list"},
        {"{{ messages[0].pop('role') }}", "'pop' of a dict"}, {"{{ (1).real }}", "'real' of a int"},
        {"{{ cycler('a') }}", "'cycler'"}, {"{{ 'a'.strip('a', 'b') }}", "argument 2 of method 'strip'"},
        {"{{ 'a'|trim(foo=1) }}", "argument 'foo' of filter 'trim'"}, {"{{ 1 is odd(2, 3) }}", "argument"},
        {"{% macro m() %}{% endmacro %}{{ m(1) }}", "argument 1 of macro 'm'"},
        {"{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}", "argument 'caller' of macro 'm'"},
        {"{{ '%x' % 1 }}", "'%'"}, {"{{ '%(a)s' % {'a': 1} }}", "'%'"}, {"{{ '{:d}'.format(1) }}", "format"},
        {"{{ 'x'|tojson(sort_keys=true) }}", "sort_keys"}, {"{{ 9000000000000000000 + 0.5 }}", "53 bits"},
        {"{{ [1]|tojson(indent='-') }}", "indent"}, {"{{ 9223372036854775808 }}", "64 bits"},
        {"{{ 9000000000000000000 + 9000000000000000000 }}", "64 bits"}, {"{{ 10 ** 30 }}", "64 bits"},
        {"{{ 4611686018427387904 * 2 }}", "64 bits"}, {"{{ -9223372036854775807 - 2 }}", "64 bits"},
        {"{{ 1e300|int }}", "64 bits"}, {"{{ 'inf'|float }}", "a number like"}, {"{{ '1_0'|int }}", "'1_0'"},
        {"{{ 'stra\xc3\x9f""e'|upper }}", "the case of U+00DF"}, {"{{ '\xc4\xb0'.lower() }}", "U+0130"},
        {"{{ '\xc3\xa9'.isalpha() }}", "not ASCII"}, {"{{ 1.5 is odd }}", "float"},
        {"{{ [1]|select }}", "generator is not"}, {"{{ {}.items() }}", "view of a dict is not"},
        {"{{ range }}", "function is not"}, {"{{ range(2) }}", "range is not"},
        {"{{ namespace() }}", "namespace"},
        {"{{ {}.keys() == {}.keys() }}", "views"}, {"{{ 'a'|safe|trim }}", "marked safe"},
        {"{{ 'a'|safe * 2 }}", "marked safe"}, {"{{ ('a'|safe)[0] }}", "marked safe"},
        {"{% set g = [1, 2]|select %}{% for x in g %}{% break %}{% endfor %}{{ g|list }}", "left"},
        {"{{ 1.5|round(-1) }}", "precision"},
        {"{{ strftime_now('%Q') }}", "'%Q'"}, {"{{ 1 is sameas 1 }}", "sameas"},
        {"{{ 'a b'.rsplit(none, 1) }}", "rsplit"}, {"{{ [1]|sort(attribute='a,b') }}", "several"},
        {"{{ '\\N{DASH}' }}", "\\N"}};
    size_t i;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_error(cases[i][0], AWQ_E_UNSUPPORTED, cases[i][1]);
    expect("{% if tools %}{{ tools|dictsort|nofilter }}{{ 'a'.zfill(1) }}{% endif %}ok", "ok"); /* never met */
}

/* before + n times middle + after */
static char *repeated(const char *before, const char *middle, int n, const char *after)
{
    size_t b = strlen(before), m = strlen(middle), a = strlen(after);
    char *s = (char *)malloc(b + m * (size_t)n + a + 1);
    int i;
    memcpy(s, before, b);
    for (i = 0; i < n; i++) memcpy(s + b + m * (size_t)i, middle, m);
    memcpy(s + b + m * (size_t)n, after, a + 1);
    return s;
}

static void test_limits(void)
{
    static const struct {
        const char *before, *middle;
        int n;
        const char *after, *part;
    } nested[] = {{"{{ ", "(", 100000, "", "nested"}, {"{{ ", "[", 100000, "", "nested"},
                  {"{{ ", "not ", 100000, "1 }}", "nested"}, {"{{ ", "-", 100000, "1 }}", "nested"},
                  {"", "{% if 1 %}", 100000, "", "nested"}, {"", "{% for a in b %}", 100000, "", "nested"},
                  {"{{ 1", "+1", 100000, " }}", "nested"}, {"{{ a", "|trim", 100000, " }}", "nested"},
                  {"{{ a", ".b", 100000, " }}", "nested"}, {"{{ a", "[0]", 100000, " }}", "nested"},
                  {"{{ a", "()", 100000, " }}", "nested"}, {"{{ 1", " if 1 else 1", 100000, " }}", "nested"},
                  {"{% for ", "(", 100000, "", "nested"},
                  {"", "{% set x %}", 100000, "", "nested"}, {"", "x", 5000000, "", "bytes"}};
    static const char *const cases[][2] = {
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested"},
        {"{% set ns = namespace(x=0) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
         "nested"},
        {"{% set ns = namespace(x=0) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}"
         "{{ ns.x == [ns.x] }}", "nested"},
        {"{% set ns = namespace(x=[0]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
         "{{ ns.x }}",
         "more than"},
        {"{% set ns = namespace(x=[0]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
         "{% set ms = namespace(x=[0]) %}{% for i in range(90) %}{% set ms.x = [ms.x, ms.x] %}{% endfor %}"
         "{{ ns.x == ms.x }}", "work"},
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "more than"},
        {"{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}", "MB"},
        {"{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x * 2 %}{% endfor %}", "MB"},
        {"{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "MB"},
        {"{% set x = 'abcdefgh' * 1000000 %}{% for i in range(99) %}{{ x }}{% endfor %}", "MB"},
        {"{% set x = 'a' * 10000000 %}{{ x.replace('', 'bbbbbbbbbbbb') }}", "MB"},
        {"{% set x = 'a' * 10000000 %}{{ x|list|length }}{{ x.split('a')|length }}", "more than"},
        {"{% set x = 'a' * 10000000 %}{% for i in range(1000) %}{{ 'b' in x }}{% endfor %}", "work"},
        {"{% set x = 'a' * 10000000 %}{{ 'a' * 1000000 ~ 'b' in x }}", "work"},
        {"{% set x = 'a' * 10000000 %}{% for i in range(1000) %}{{ x|length }}{% endfor %}", "work"},
        {"{% set x = 'a' * 10000000 %}{% for i in range(1000) %}{{ x == x ~ '' }}{% endfor %}", "more than"},
        {"{% set x = 'a' * 10000000 %}{% for i in range(99) %}{{ x.strip('ba')|length }}{% endfor %}", "work"},
        {"{{ 'a' * 9000000000000000000 }}", "MB"}, {"{{ range(100001) }}", "range"},
        {"{{ [[[1]]]|tojson(indent=64) * 9999999 }}", "MB"}};
    size_t i;
    double began = test_cpu();
    for (i = 0; i < sizeof nested / sizeof nested[0]; i++) {
        char *s = repeated(nested[i].before, nested[i].middle, nested[i].n, nested[i].after);
        expect_error(s, AWQ_E_LIMIT, nested[i].part);
        free(s);
    }
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) expect_error(cases[i][0], AWQ_E_LIMIT, cases[i][1]);
    CHECK_MSG(test_cpu() - began < 120, "%.1f s", test_cpu() - began);
}

/* long but harmless input is neither refused nor slow */
static void test_long(void)
{
    awq_ctx ctx;
    awq_template_desc d;
    awq_message *many = (awq_message *)calloc(20000, sizeof *many), one;
    char *big = repeated("", "caf\xc3\xa9 </think> ", 100000, "\xff"), *text = NULL, *s;
    size_t bytes, i;
    double began = test_cpu();
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    d.add_generation_prompt = 1;
    memset(&one, 0, sizeof one);
    one.role = "user";
    one.content = big;
    CHECK(!awq_template_render(&ctx, inst, &one, 1, &d, &text, NULL) && strstr(text, big));
    awq_text_free(&ctx, text);
    CHECK(!awq_template_render(&ctx, "{% set c = messages[0].content %}"
                                     "{{ c.split('</think>')[-1]|trim }}{{ c[-1:] }}"
                                     "{% for c in messages[0].content[:1000] %}{{ c.x }}{% endfor %}",
                               &one, 1, &d, &text, &bytes));
    CHECK(bytes == 2 && !strcmp(text, "\xff\xff"));
    awq_text_free(&ctx, text);
    for (i = 0; i < 20000; i++) {
        many[i].role = i % 2 ? "assistant" : "user";
        many[i].content = "some words";
    }
    CHECK(!awq_template_render(&ctx, chatml, many, 20000, &d, &text, &bytes) && bytes > 20000 * 40);
    awq_text_free(&ctx, text);
    s = repeated("", "{{ 'a' }}{# b #} {% if 1 %}c{% endif %}", 50000, "");
    CHECK(!awq_template_render(&ctx, s, many, 1, &d, &text, &bytes) && bytes == 50000 * 3);
    awq_text_free(&ctx, text);
    free(s);
    CHECK(ctx.memory_used == 0);
    CHECK_MSG(test_cpu() - began < 30, "%.1f s", test_cpu() - began);
    free(big);
    free(many);
}

static void test_arguments(void)
{
    static const awq_message bad[] = {{"user", "x", NULL}, {"user", NULL, NULL}};
    awq_template_desc d;
    awq_ctx ctx;
    char *text = NULL;
    size_t bytes;
    memset(&ctx, 0, sizeof ctx);
    memset(&d, 0, sizeof d);
    CHECK(awq_template_render(&ctx, NULL, talk, 1, &d, &text, &bytes) == AWQ_E_ARG);
    CHECK(awq_template_render(&ctx, "", NULL, 1, &d, &text, &bytes) == AWQ_E_ARG);
    CHECK(awq_template_render(&ctx, "", talk, 1, NULL, &text, &bytes) == AWQ_E_ARG);
    CHECK(awq_template_render(&ctx, "", talk, 1, &d, NULL, &bytes) == AWQ_E_ARG);
    CHECK(awq_template_render(&ctx, "", bad, 2, &d, &text, &bytes) == AWQ_E_ARG);
    CHECK(strstr(ctx.err.text, "message 1") != NULL);
    CHECK(!awq_template_render(&ctx, "", NULL, 0, &d, &text, &bytes) && bytes == 0 && text && !*text);
    awq_text_free(&ctx, text);
    awq_text_free(&ctx, NULL);
    CHECK(ctx.memory_used == 0);
}

/* members of messages, tools and variables from JSON */
static void test_json(void)
{
    static const awq_message calls[] = {
        {"user", "Add.", NULL},
        {"assistant", NULL,
         "{\"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"add\", \"arguments\": {\"a\": 1.0, \"b\": -2, "
         "\"c\": \"\\u00e9<\", \"d\": [true, false, null]}}}]}"},
        {"tool", "3", "{\"name\": \"add\", \"role\": \"ipython\", \"name\": \"sub\"}"}};
    static const char source[] =
        "{% for t in tools %}{{ t|tojson }};{% endfor %}{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments|tojson }})"
        "{{ c.function.arguments }}{% endfor %}{% if m.name %}{{ m }}{% endif %};{% endfor %}{{ x.y }}{{ tools is none }}";
    static const struct {
        const char *extra, *tools, *variables, *error;
    } bad[] = {{"{\"a\": }", NULL, NULL, "extra of message 0"}, {"[]", NULL, NULL, "extra of message 0: expected a JSON object"},
               {NULL, "{}", NULL, "tools of the chat template: expected a JSON list"}, {NULL, "[", NULL, "tools of"},
               {NULL, NULL, "3", "variables of the chat template: expected a JSON object"}, {NULL, NULL, "", "variables"}};
    awq_message one = {"user", NULL, NULL};
    awq_template_desc d;
    char buffer[2048];
    size_t i;
    memset(&d, 0, sizeof d);
    d.tools = " [{\"type\": \"function\"}, 1] ";
    d.variables = "{\"x\": {\"y\": 7}, \"bos_token\": \"b\"}";
    CHECK(!render(source, calls, 3, &d, buffer, sizeof buffer));
    CHECK_MSG(!strcmp(buffer, "{\"type\": \"function\"};1;user:Add.;assistant:Noneadd({\"a\": 1.0, \"b\": -2, \"c\": "
                              "\"\xc3\xa9<\", \"d\": [true, false, null]}){'a': 1.0, 'b': -2, 'c': '\xc3\xa9<', 'd': "
                              "[True, False, None]};ipython:3{'role': 'ipython', 'content': '3', 'name': 'sub'};"
                              "7False"), "%s", buffer);
    d.tools = NULL;
    CHECK(!render("{{ tools }}{{ bos_token }}{{ x }}", NULL, 0, &d, buffer, sizeof buffer));
    CHECK(!strcmp(buffer, "Noneb{'y': 7}"));
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&d, 0, sizeof d);
        one.content = "x";
        one.extra = bad[i].extra;
        d.tools = bad[i].tools;
        d.variables = bad[i].variables;
        CHECK_MSG(render("", &one, 1, &d, buffer, sizeof buffer) == AWQ_E_FORMAT && strstr(buffer, bad[i].error), "%s",
                  buffer);
    }
}

static void test_allocations(void)
{
    static const char *const sources[] = {
        chatml, headers, inst,
        "{% macro m(a) %}{% set b %}{{ a|tojson(indent=2) }}{% endset %}{{ b|indent }}{% endmacro %}"
        "{{ m({'a': [1, 2]|map('string')|list}) ~ 'x'.split('y') }}{{ ('a' * 100000).upper()[::-1]|length }}"};
    size_t i;
    for (i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        long k;
        awq_status st = AWQ_E_MEMORY;
        for (k = 0; st && k < 1000; k++) {
            fail_alloc f = {0, 0, 0};
            awq_template_desc d;
            awq_ctx ctx;
            char *text = NULL;
            size_t bytes;
            f.fail_at = k;
            memset(&ctx, 0, sizeof ctx);
            memset(&d, 0, sizeof d);
            ctx.allocator = fail_allocator(&f);
            d.tools = "[{\"a\": [1, \"x\"]}]";
            d.variables = "{\"b\": {\"c\": 1.5}}";
            st = awq_template_render(&ctx, sources[i], talk, 4, &d, &text, &bytes);
            CHECK_MSG(st == AWQ_OK || (st == AWQ_E_MEMORY && !text), "%ld: %s", k, ctx.err.text);
            awq_text_free(&ctx, text);
            CHECK(f.live == 0 && ctx.memory_used == 0);
        }
        CHECK(st == AWQ_OK && k > 3);
    }
}

/* each conversation through each template of chat.json, with and without the generation prompt */
static void test_chat_json(void)
{
    const char *folder = TEST_DATA();
    awq_ctx ctx;
    awq__json j;
    char *path;
    uint32_t t, r, m;
    int count = 0;
    if (!folder) TEST_SKIP("AWQ_TEST_DATA is not set");
    memset(&ctx, 0, sizeof ctx);
    memset(&j, 0, sizeof j);
    path = awq__path_join(&ctx, folder, "fixtures/chat/chat.json");
    CHECK(path && !awq__json_load(&ctx, path, (size_t)64 << 20, &j));
    t = j.nodes ? awq__json_first(&j, awq__json_get(&j, 1, "templates")) : 0;
    for (; t; t = awq__json_next(&j, t)) {
        const char *source = awq__json_str(&j, awq__json_get(&j, t, "chat_template"), NULL);
        const char *name = awq__json_str(&j, awq__json_get(&j, t, "name"), NULL);
        awq_template_desc d;
        memset(&d, 0, sizeof d);
        d.bos_token = awq__json_str(&j, awq__json_get(&j, t, "bos_token"), NULL);
        d.eos_token = awq__json_str(&j, awq__json_get(&j, t, "eos_token"), NULL);
        /* those that ask for the day and not for date_string were rendered on this one */
        d.date_string = strstr(source, "strftime_now") && !strstr(source, "date_string") ? "21 November 2026"
                                                                                         : "26 Jul 2024";
        for (r = awq__json_first(&j, awq__json_get(&j, t, "rendered")); r; r = awq__json_next(&j, r)) {
            awq_message messages[16];
            size_t n = 0, bytes = 0, expected_bytes = 0;
            const char *expected, *rendering = awq__json_key(&j, r), *plus = strchr(rendering, '+');
            char *text = NULL, key[64];
            awq_status st;
            snprintf(key, sizeof key, "%.*s", plus ? (int)(plus - rendering) : 63, rendering);
            m = awq__json_first(&j, awq__json_get(&j, awq__json_get(&j, 1, "conversations"), key));
            for (; m && n < 16; m = awq__json_next(&j, m), n++) {
                messages[n].role = awq__json_str(&j, awq__json_get(&j, m, "role"), NULL);
                messages[n].content = awq__json_str(&j, awq__json_get(&j, m, "content"), NULL);
                messages[n].extra = NULL;
            }
            d.add_generation_prompt = plus != NULL;
            st = awq_template_render(&ctx, source, messages, n, &d, &text, &bytes);
            expected = awq__json_str(&j, r, &expected_bytes);
            if (expected) {
                CHECK_MSG(st == AWQ_OK && bytes == expected_bytes && !memcmp(text, expected, bytes),
                          "%s, %s: [%s], expected [%s]", name, rendering, st ? ctx.err.text : text, expected);
            } else { /* "TemplateError: what raise_exception was given" */
                expected = awq__json_str(&j, awq__json_get(&j, r, "error"), NULL);
                CHECK_MSG(st == AWQ_E_ARG && !strcmp(strchr(ctx.err.text, ':'), strchr(expected, ':')),
                          "%s, %s: %s, expected %s", name, rendering, ctx.err.text, expected);
            }
            awq_text_free(&ctx, text);
            count++;
        }
    }
    CHECK_MSG(count >= 276, "%d renderings", count);
    awq__json_free(&ctx, &j);
    awq__free(&ctx, path);
    CHECK(ctx.memory_used == 0);
}

int main(int argc, char **argv)
{
    TEST_BEGIN(argc, argv);
    RUN(test_expressions);
    RUN(test_constructs);
    RUN(test_date);
    RUN(test_whitespace);
    RUN(test_templates);
    RUN(test_syntax_errors);
    RUN(test_value_errors);
    RUN(test_unsupported);
    RUN(test_limits);
    RUN(test_long);
    RUN(test_arguments);
    RUN(test_json);
    RUN(test_allocations);
    RUN(test_chat_json);
    return TEST_END();
}
