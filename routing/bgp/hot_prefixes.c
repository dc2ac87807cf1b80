/* The arrays behind a PrefixTable. Nothing here is known to Python but that labels are objects. */
#include "hot_prefixes.h"

enum { KEPT_CHANGES = 4096 }; /* the array of changes is given back if it is longer */

/* --- making and growing ------------------------------------------------------------------------------------------ */

void prefixes_open(struct prefixes *prefixes, unsigned width)
{
    memset(prefixes, 0, sizeof *prefixes);
    prefixes->width = width;
    prefixes->stride = sizeof(struct entry) + width / 8;
    prefixes->free_entry = prefixes->free_group = NIL;
}

static void free_entries(struct prefixes *prefixes)
{
    PyMem_Free(prefixes->entries);
    PyMem_Free(prefixes->by_prefix.slots);
    prefixes->entries = NULL;
    prefixes->entry_count = prefixes->entry_capacity = 0;
    prefixes->free_entry = NIL;
    prefixes->by_prefix = (struct index){0};
}

void prefixes_close(struct prefixes *prefixes)
{
    struct prefixes old = *prefixes;

    /* A label that goes may come back to the table: it finds an empty one. */
    prefixes_open(prefixes, old.width);
    for (uint32_t group = 0; group < old.group_count; group++)
        Py_XDECREF(old.groups[group].label);
    free_entries(&old);
    PyMem_Free(old.groups);
    PyMem_Free(old.by_label.slots);
    PyMem_Free(old.changed);
}

/* Return the array with room for `wanted` items in all, half as many more as there were; NULL with MemoryError. */
static void *grow(void *array, uint32_t *capacity, size_t wanted, size_t item_size)
{
    size_t more = (size_t)*capacity + *capacity / 2 + 16;
    void *grown;

    if (wanted <= *capacity)
        return array;
    if (more < wanted)
        more = wanted;
    if (more >= UNCHANGED)
        more = UNCHANGED - 1;
    grown = more < wanted ? NULL : PyMem_Realloc(array, more * item_size);
    if (grown)
        *capacity = (uint32_t)more;
    else
        PyErr_NoMemory();
    return grown;
}

/* --- prefixes ----------------------------------------------------------------------------------------------------- */

static inline uint32_t hash_address(const uint32_t *address, uint8_t length, unsigned width)
{
    uint64_t high, low;

    if (width == 32)
        return hot_hash(address[0], 0, length);
    memcpy(&high, address, sizeof high);
    memcpy(&low, address + 2, sizeof low);
    return hot_hash(high, low, length);
}

void prefixes_key(const struct prefixes *prefixes, const uint8_t *at, struct key *key)
{
    memset(key->address, 0, sizeof key->address);
    key->length = *at;
    copy_address(key->address, at + 1, (*at + 7U) / 8U);
    key->hash = hash_address(key->address, key->length, prefixes->width);
}

static inline bool is_at(const struct prefixes *prefixes, const struct key *key, uint32_t number)
{
    const struct entry *entry = entry_at(prefixes, number);

    if (entry->length != key->length || entry->address[0] != key->address[0])
        return false;
    return prefixes->width == 32 || memcmp(entry->address + 1, key->address + 1, 12) == 0;
}

uint32_t prefixes_find(const struct prefixes *prefixes, const struct key *key)
{
    const struct index *index = &prefixes->by_prefix;

    if (index->slots)
        INDEX_EACH (index, key->hash, slot)
            if (is_at(prefixes, key, index->slots[slot].number))
                return index->slots[slot].number;
    return NIL;
}

static uint32_t new_entry(struct prefixes *prefixes)
{
    uint32_t number = prefixes->free_entry;
    char *grown;

    if (number != NIL) {
        prefixes->free_entry = entry_at(prefixes, number)->next;
        return number;
    }
    grown = grow(prefixes->entries, &prefixes->entry_capacity, (size_t)prefixes->entry_count + 1, prefixes->stride);
    if (!grown)
        return NIL;
    prefixes->entries = grown;
    return prefixes->entry_count++;
}

uint32_t prefixes_find_or_add(struct prefixes *prefixes, const struct key *key)
{
    uint32_t number = prefixes_find(prefixes, key);
    struct entry *entry;

    if (number != NIL)
        return number;
    if (!index_reserve(&prefixes->by_prefix) || (number = new_entry(prefixes)) == NIL)
        return NIL;
    entry = entry_at(prefixes, number);
    *entry = (struct entry){.group = NOBODY, .before = UNCHANGED, .previous = NIL, .next = NIL, .length = key->length};
    memcpy(entry->address, key->address, prefixes->width / 8);
    index_put(&prefixes->by_prefix, key->hash, number);
    return number;
}

void prefixes_drop_unused(struct prefixes *prefixes, uint32_t number)
{
    struct entry *entry = entry_at(prefixes, number);

    if (entry->group != NOBODY || entry->before != UNCHANGED)
        return;
    index_remove(&prefixes->by_prefix, hash_address(entry->address, entry->length, prefixes->width), number);
    entry->next = prefixes->free_entry;
    prefixes->free_entry = number;
}

static void fill_ahead(struct walk_ahead *walk)
{
    const struct index *index = &walk->prefixes->by_prefix;

    walk->at = walk->count = 0;
    for (; walk->count < AHEAD && walk->left.at < walk->left.end; walk->count++) {
        struct key *key = walk->keys + walk->count;

        prefixes_key(walk->prefixes, walk->left.at, key);
        walk->left.at += 1 + (*walk->left.at + 7U) / 8U;
        if (index->slots)
            __builtin_prefetch(index->slots + (key->hash & index->mask));
    }
    for (unsigned at = 0; index->slots && at < walk->count; at++) {
        uint32_t number = index->slots[walk->keys[at].hash & index->mask].number;

        if (number != NIL)
            __builtin_prefetch(entry_at(walk->prefixes, number));
    }
}

const struct key *walk_next(struct walk_ahead *walk)
{
    if (walk->at == walk->count)
        fill_ahead(walk);
    return walk->at < walk->count ? walk->keys + walk->at++ : NULL;
}

/* --- groups ------------------------------------------------------------------------------------------------------- */

static uint32_t hash_label(const void *label)
{
    return hot_hash((uint64_t)(uintptr_t)label, 0, 0);
}

uint32_t prefixes_group(const struct prefixes *prefixes, const PyObject *label)
{
    const struct index *index = &prefixes->by_label;
    uint32_t hash = hash_label(label);

    if (index->slots)
        INDEX_EACH (index, hash, slot)
            if (prefixes->groups[index->slots[slot].number].label == label)
                return index->slots[slot].number;
    return NIL;
}

static uint32_t new_group(struct prefixes *prefixes)
{
    uint32_t group = prefixes->free_group;
    struct group *grown;

    if (group != NIL) {
        prefixes->free_group = prefixes->groups[group].first;
        return group;
    }
    grown = grow(prefixes->groups, &prefixes->group_capacity, (size_t)prefixes->group_count + 1, sizeof *grown);
    if (!grown)
        return NIL;
    prefixes->groups = grown;
    return prefixes->group_count++;
}

bool prefixes_group_for(struct prefixes *prefixes, PyObject *label, uint32_t *group)
{
    *group = label == Py_None ? NOBODY : prefixes_group(prefixes, label);
    if (*group != NIL || label == Py_None)
        return true;
    if (!index_reserve(&prefixes->by_label) || (*group = new_group(prefixes)) == NIL)
        return false;
    prefixes->groups[*group] = (struct group){.label = Py_NewRef(label), .first = NIL, .last = NIL, .asked = NIL};
    index_put(&prefixes->by_label, hash_label(label), *group);
    return true;
}

void prefixes_release_group(struct prefixes *prefixes, uint32_t number)
{
    struct group *group = prefixes->groups + number;
    PyObject *label;

    if (number == NOBODY || !group->label || group->count > 0 || group->remembered > 0)
        return;
    label = group->label;
    index_remove(&prefixes->by_label, hash_label(label), number);
    group->label = NULL;
    group->first = prefixes->free_group;
    prefixes->free_group = number;
    Py_DECREF(label);
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

bool prefixes_reserve_changes(struct prefixes *prefixes, size_t more)
{
    size_t wanted = prefixes->changed_count + more;
    uint32_t *grown;

    if (wanted <= prefixes->changed_capacity)
        return true;
    grown = grow(prefixes->changed, &prefixes->changed_capacity, wanted, sizeof *grown);
    if (grown)
        prefixes->changed = grown;
    return grown;
}

static void remember(struct prefixes *prefixes, struct entry *entry, uint32_t number)
{
    if (entry->before != UNCHANGED)
        return;
    entry->before = entry->group;
    if (entry->group != NOBODY)
        prefixes->groups[entry->group].remembered++;
    prefixes->changed[prefixes->changed_count++] = number;
}

static void leave(struct prefixes *prefixes, struct entry *entry)
{
    struct group *group = prefixes->groups + entry->group;

    if (entry->previous == NIL)
        group->first = entry->next;
    else
        entry_at(prefixes, entry->previous)->next = entry->next;
    if (entry->next == NIL)
        group->last = entry->previous;
    else
        entry_at(prefixes, entry->next)->previous = entry->previous;
    group->count--;
    prefixes->there--;
}

static void join(struct prefixes *prefixes, struct entry *entry, uint32_t number)
{
    struct group *group = prefixes->groups + entry->group;

    entry->previous = group->last;
    entry->next = NIL;
    if (group->last == NIL)
        group->first = number;
    else
        entry_at(prefixes, group->last)->next = number;
    group->last = number;
    group->count++;
    prefixes->there++;
}

void prefixes_move(struct prefixes *prefixes, uint32_t number, uint32_t group)
{
    struct entry *entry = entry_at(prefixes, number);

    remember(prefixes, entry, number);
    if (entry->group != NOBODY)
        leave(prefixes, entry);
    entry->group = group;
    if (group != NOBODY)
        join(prefixes, entry, number);
}

void prefixes_forget_changes(struct prefixes *prefixes)
{
    for (uint32_t at = 0; at < prefixes->changed_count; at++) {
        struct entry *entry = entry_at(prefixes, prefixes->changed[at]);
        uint32_t before = entry->before;

        entry->before = UNCHANGED;
        prefixes_drop_unused(prefixes, prefixes->changed[at]);
        if (before != NOBODY) {
            prefixes->groups[before].remembered--;
            prefixes_release_group(prefixes, before);
        }
    }
    prefixes->changed_count = 0;
    if (prefixes->changed_capacity > KEPT_CHANGES) {
        PyMem_Free(prefixes->changed);
        prefixes->changed = NULL;
        prefixes->changed_capacity = 0;
    }
    if (prefixes->by_prefix.used == 0)
        free_entries(prefixes);
}
