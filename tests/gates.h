/* Gates of a guard's report by their ids, for tests. */
#ifndef GATES_H
#define GATES_H

static const awq_gate *gate_of(const awq_guard_report *r, const char *id)
{
    int i;
    for (i = 0; r && i < r->n_gates; i++)
        if (!strcmp(r->gate[i].id, id)) return &r->gate[i];
    return NULL;
}

static awq_severity severity_of(const awq_guard_report *r, const char *id)
{
    const awq_gate *g = gate_of(r, id);
    CHECK_MSG(g != NULL, "%s", id);
    return g ? g->severity : AWQ_VOID;
}

static int gate_says(const awq_guard_report *r, const char *id, const char *words)
{
    const awq_gate *g = gate_of(r, id);
    return g && strstr(g->text, words);
}

#endif
