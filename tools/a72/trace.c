/* QEMU TCG plug-in: how often each basic block ran, and what a Cortex-A72's data caches would have missed.
 *
 * The guest cuts its run into pieces by the harmless system call getpgid(MARK + label). Each cut writes what
 * happened since the one before. Cut 0 also switches the cache model on, so that a warm-up frame fills it.
 * With ticks=1 every clock_gettime of the first thread is a cut too: ONNX Runtime's profiler reads the clock
 * at the start and the end of each operator, and qemu-user offers no vDSO, so those reads are system calls.
 *
 * Output, one item a line:
 *   block INDEX ADDRESS HEX            a basic block and its instruction words, when first translated
 *   count INDEX N                      executions since the previous cut
 *   cut LABEL NANOSECONDS ACCESSES L1_MISSES L2_MISSES WRITE_BACKS    label 1000 is a tick
 *
 * Options: out=FILE, ticks=1. Written for version 1 of the plug-in interface (qemu 7.2, Debian 12).
 */
#include <glib.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "qemu-plugin.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { MARK = 0x0ede1000, TICK = 1000, SYSCALL_CLOCK_GETTIME = 113, SYSCALL_GETPGID = 155 };

/* ---- basic blocks ---- */

struct block {
    uint64_t address, count, reported;
    unsigned index, words;
    uint32_t *code;
};

static GHashTable *blocks;
static GPtrArray *block_list;
static GMutex lock;
static FILE *out;
static bool ticks;

static guint block_hash(gconstpointer key)
{
    const struct block *b = key;
    guint hash = (guint)(b->address ^ (b->address >> 32)) * 2654435761u;
    for (unsigned i = 0; i < b->words; i++)
        hash = hash * 31 + b->code[i];
    return hash;
}

static gboolean block_equal(gconstpointer a, gconstpointer b)
{
    const struct block *x = a, *y = b;
    return x->address == y->address && x->words == y->words && !memcmp(x->code, y->code, 4 * x->words);
}

/* ---- caches: 64-byte lines, true LRU, write-back, allocate on write ---- */

enum { L1_SETS = 256, L1_WAYS = 2, L2_SETS = 1024, L2_WAYS = 16, LINE_BITS = 6 };

struct line {
    uint64_t tag;
    bool dirty;
};

static struct line level1[L1_SETS][L1_WAYS], level2[L2_SETS][L2_WAYS];
static uint64_t accesses, l1_misses, l2_misses, write_backs;
static bool simulating;

/* Move `tag` to the front of a set. Returns true on a hit; on a miss *victim is the line pushed out. */
static bool touch(struct line *set, int ways, uint64_t tag, bool dirty, struct line *victim)
{
    int way = 0;
    while (way < ways - 1 && set[way].tag != tag)
        way++;
    bool hit = set[way].tag == tag;
    if (!hit)
        *victim = set[way];
    struct line line = {tag, dirty || (hit && set[way].dirty)};
    memmove(set + 1, set, way * sizeof *set);
    set[0] = line;
    return hit;
}

static void access_level2(uint64_t tag, bool dirty, bool demand)
{
    struct line victim;
    if (!touch(level2[tag % L2_SETS], L2_WAYS, tag, dirty, &victim)) {
        l2_misses += demand;
        write_backs += victim.dirty;
    }
}

static void access_line(uint64_t tag, bool store)
{
    struct line victim;
    if (touch(level1[tag % L1_SETS], L1_WAYS, tag, store, &victim))
        return;
    l1_misses++;
    if (victim.dirty)
        access_level2(victim.tag, true, false);
    access_level2(tag, false, true);
}

static void on_memory(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
    if (!simulating)
        return;
    bool store = qemu_plugin_mem_is_store(info);
    uint64_t first = address >> LINE_BITS;
    uint64_t last = (address + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> LINE_BITS;
    accesses++;
    access_line(first, store);
    if (last != first)
        access_line(last, store);
}

/* ---- cuts ---- */

static void cut(unsigned label)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    g_mutex_lock(&lock);
    for (unsigned i = 0; i < block_list->len; i++) {
        struct block *b = block_list->pdata[i];
        if (b->count != b->reported)
            fprintf(out, "count %u %" PRIu64 "\n", b->index, b->count - b->reported);
        b->reported = b->count;
    }
    fprintf(out, "cut %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", label,
            (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec, accesses, l1_misses, l2_misses, write_backs);
    accesses = l1_misses = l2_misses = write_backs = 0;
    fflush(out);
    g_mutex_unlock(&lock);
}

static void on_syscall(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (number == SYSCALL_GETPGID && a1 >= MARK && a1 < MARK + TICK) {
        simulating = true;
        cut((unsigned)(a1 - MARK));
    } else if (ticks && simulating && vcpu == 0 && number == SYSCALL_CLOCK_GETTIME) {
        cut(TICK);
    }
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct block key = {.address = qemu_plugin_tb_vaddr(tb), .words = (unsigned)qemu_plugin_tb_n_insns(tb)};
    if (!key.words)
        return; /* a jump to a page that is not there */
    key.code = g_new(uint32_t, key.words);
    for (unsigned i = 0; i < key.words; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        memcpy(&key.code[i], qemu_plugin_insn_data(insn), 4);
        qemu_plugin_register_vcpu_mem_cb(insn, on_memory, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
    g_mutex_lock(&lock);
    struct block *b = g_hash_table_lookup(blocks, &key);
    if (b) {
        g_free(key.code);
    } else {
        b = g_memdup2(&key, sizeof key);
        b->index = block_list->len;
        g_hash_table_add(blocks, b);
        g_ptr_array_add(block_list, b);
        fprintf(out, "block %u %" PRIx64 " ", b->index, b->address);
        for (unsigned i = 0; i < b->words; i++)
            fprintf(out, "%08x", b->code[i]);
        fputc('\n', out);
    }
    g_mutex_unlock(&lock);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &b->count, 1);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (g_str_has_prefix(argv[i], "out="))
            out = fopen(argv[i] + 4, "w");
        ticks |= !strcmp(argv[i], "ticks=1") || !strcmp(argv[i], "ticks=on");
    }
    if (!out) {
        fputs("trace: give out=FILE, a file that can be written\n", stderr);
        return -1;
    }
    blocks = g_hash_table_new(block_hash, block_equal);
    block_list = g_ptr_array_new();
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
