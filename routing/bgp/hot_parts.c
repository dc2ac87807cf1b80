/* take_changes and within of a PrefixTable: octets by kind of prefix, measured first, then filled. */
#include "hot_prefixes.h"

struct part {
    uint32_t before, after; /* groups */
    size_t size, count;
    PyObject *octets;
    uint8_t *out;
};

struct parts {
    struct part *parts;
    uint32_t count, capacity;
    uint32_t *which; /* the part of each prefix; NIL: none */
};

static bool parts_open(struct parts *parts, size_t count)
{
    memset(parts, 0, sizeof *parts);
    parts->which = PyMem_Malloc(count * sizeof *parts->which + 1);
    if (!parts->which)
        PyErr_NoMemory();
    return parts->which;
}

static void parts_close(struct parts *parts)
{
    for (uint32_t at = 0; at < parts->count; at++)
        Py_XDECREF(parts->parts[at].octets);
    PyMem_Free(parts->parts);
    PyMem_Free(parts->which);
}

/* The number of a new part; NIL with MemoryError. */
static uint32_t parts_add(struct parts *parts, uint32_t before, uint32_t after)
{
    if (parts->count == parts->capacity) {
        uint32_t capacity = parts->capacity * 2 + 4;
        struct part *grown = PyMem_Realloc(parts->parts, capacity * sizeof *grown);

        if (!grown) {
            PyErr_NoMemory();
            return NIL;
        }
        parts->parts = grown;
        parts->capacity = capacity;
    }
    parts->parts[parts->count] = (struct part){.before = before, .after = after};
    return parts->count++;
}

static bool parts_allocate(struct parts *parts)
{
    for (struct part *part = parts->parts; part < parts->parts + parts->count; part++) {
        part->octets = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)part->size);
        if (!part->octets)
            return false;
        part->out = (uint8_t *)PyBytes_AS_STRING(part->octets);
    }
    return true;
}

/* Many prefixes in turn mostly change alike: `last` is the part of the one before. */
static uint32_t part_of_pair(struct parts *parts, struct index *index, const struct entry *entry, uint32_t last)
{
    uint32_t at, hash = hot_hash(entry->before, entry->group, 0);

    if (last != NIL && parts->parts[last].before == entry->before && parts->parts[last].after == entry->group)
        return last;
    if (!index_reserve(index))
        return NIL;
    INDEX_EACH (index, hash, slot) {
        const struct part *part = parts->parts + index->slots[slot].number;

        if (part->before == entry->before && part->after == entry->group)
            return index->slots[slot].number;
    }
    at = parts_add(parts, entry->before, entry->group);
    if (at != NIL)
        index_put(index, hash, at);
    return at;
}

static bool sort_changes(const struct prefixes *prefixes, struct parts *parts)
{
    struct index index = {0};
    uint32_t last = NIL;
    bool good = true;

    for (uint32_t at = 0; good && at < prefixes->changed_count; at++) {
        const struct entry *entry = entry_at(prefixes, prefixes->changed[at]);

        parts->which[at] = NIL;
        if (entry->before == entry->group)
            continue;
        parts->which[at] = last = part_of_pair(parts, &index, entry, last);
        good = last != NIL;
        if (good) {
            parts->parts[last].size += entry_size(entry);
            parts->parts[last].count++;
        }
    }
    PyMem_Free(index.slots);
    return good && parts_allocate(parts);
}

static PyObject *list_changes(const struct prefixes *prefixes, const struct parts *parts)
{
    PyObject *changes = PyList_New((Py_ssize_t)parts->count);

    for (uint32_t at = 0; changes && at < parts->count; at++) {
        const struct part *part = parts->parts + at;
        PyObject *change = Py_BuildValue("(OOOn)", label_of(prefixes, part->before), label_of(prefixes, part->after),
                                         part->octets, (Py_ssize_t)part->count);

        if (change)
            PyList_SET_ITEM(changes, at, change);
        else
            Py_CLEAR(changes);
    }
    return changes;
}

PyObject *hot_take_changes(struct prefixes *prefixes)
{
    PyObject *changes = NULL;
    struct parts parts;

    if (!parts_open(&parts, prefixes->changed_count))
        return NULL;
    if (sort_changes(prefixes, &parts))
        changes = list_changes(prefixes, &parts);
    for (uint32_t at = 0; changes && at < prefixes->changed_count; at++)
        if (parts.which[at] != NIL) {
            struct part *part = parts.parts + parts.which[at];

            part->out = put_entry(part->out, entry_at(prefixes, prefixes->changed[at]));
        }
    /* What this lets go of is in the list: no label goes before the caller has seen it. */
    if (changes)
        prefixes_forget_changes(prefixes);
    parts_close(&parts);
    return changes;
}

static uint32_t part_of_group(struct parts *parts, struct prefixes *prefixes, uint32_t group, uint32_t *nobody)
{
    uint32_t *asked = group == NOBODY ? nobody : &prefixes->groups[group].asked;

    if (*asked == NIL)
        *asked = parts_add(parts, NOBODY, group);
    return *asked;
}

static bool sort_within(struct prefixes *prefixes, struct octets nlri, struct parts *parts)
{
    struct walk_ahead walk = {.prefixes = prefixes, .left = nlri};
    uint32_t *which = parts->which, nobody = NIL, number;
    const struct key *key;
    bool good = true;

    while (good && (key = walk_next(&walk))) {
        number = prefixes_find(prefixes, key);
        *which = part_of_group(parts, prefixes, number == NIL ? NOBODY : entry_at(prefixes, number)->group, &nobody);
        good = *which != NIL;
        if (good)
            parts->parts[*which++].size += 1 + (key->length + 7U) / 8U;
    }
    for (uint32_t at = 0; at < parts->count; at++)
        if (parts->parts[at].after != NOBODY)
            prefixes->groups[parts->parts[at].after].asked = NIL;
    return good && parts_allocate(parts);
}

static void fill_within(struct octets nlri, struct parts *parts)
{
    for (const uint32_t *which = parts->which; nlri.at < nlri.end; which++) {
        struct part *part = parts->parts + *which;
        size_t size = 1 + (*nlri.at + 7U) / 8U;

        memcpy(part->out, nlri.at, size);
        part->out += size;
        nlri.at += size;
    }
}

static PyObject *list_within(const struct prefixes *prefixes, const struct parts *parts)
{
    PyObject *found = PyList_New((Py_ssize_t)parts->count);

    for (uint32_t at = 0; found && at < parts->count; at++) {
        PyObject *item = Py_BuildValue("(OO)", label_of(prefixes, parts->parts[at].after), parts->parts[at].octets);

        if (item)
            PyList_SET_ITEM(found, at, item);
        else
            Py_CLEAR(found);
    }
    return found;
}

PyObject *hot_within(struct prefixes *prefixes, struct octets nlri, Py_ssize_t count)
{
    struct parts parts;
    PyObject *found = NULL;

    if (!parts_open(&parts, (size_t)count))
        return NULL;
    if (sort_within(prefixes, nlri, &parts)) {
        fill_within(nlri, &parts);
        found = list_within(prefixes, &parts);
    }
    parts_close(&parts);
    return found;
}
