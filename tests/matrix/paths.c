/* Long, odd and too long paths, absolute and relative: files are made, renamed, read and removed there, or one sentence
   says why not. Prints a line that must be the same on every system; tests/matrix/run.sh compares it. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#ifndef _WIN32
#  include <unistd.h>
#endif

enum { LEVELS = 8, LONGEST = 8000 };
/* 50 letters; spaces, and what no code page of 256 characters has together */
#define LEVEL "/a folder \xc3\xa4\xc3\xb6 \xe6\xbc\xa2\xe5\xad\x97 \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 with a longish name, deep"

static int fail(const awq_ctx *ctx, const char *what)
{
    printf("%s: %s\n", what, ctx->err.text);
    return 1;
}

static int here(char *path, size_t cap) /* the current folder */
{
#ifdef _WIN32
    wchar_t w[AWQ__WIN_PATH];
    DWORD n = GetCurrentDirectoryW(AWQ__WIN_PATH, w);
    return !n || n >= AWQ__WIN_PATH || !WideCharToMultiByte(CP_UTF8, 0, w, -1, path, (int)cap, NULL, NULL);
#else
    return !getcwd(path, cap);
#endif
}

#ifdef _WIN32
/* wine takes long paths in any form, Windows only in the one without a limit */
static int forms(void)
{
    static const char *const start[] = {"", "C:/", "//server/share/", "C:/"};
    static const wchar_t *const head[] = {L"\\\\?\\", L"\\\\?\\C:\\a", L"\\\\?\\UNC\\server\\share\\a", L"C:/a"};
    static char path[600];
    wchar_t w[AWQ__WIN_PATH];
    int i, n;
    for (i = 0; i < 4; i++) {
        strcpy(path, start[i]);
        for (n = 0; n < (i == 3 ? 5 : 150); n++) strcat(path, "a/");
        if (awq__win_path(path, w, AWQ__WIN_PATH) || wcsncmp(w, head[i], wcslen(head[i]))) return printf("form %d\n", i), 1;
        if (i < 3 && wcschr(w, '/')) return printf("form %d: a slash\n", i), 1;
    }
    return 0;
}
#endif

static int try_at(awq_ctx *ctx, const char *start)
{
    static char path[LONGEST + 64], file[LONGEST + 128], other[LONGEST + 128];
    const awq_file_system *fs = awq__fs(ctx);
    char *data = NULL;
    size_t n = 0, ends[LEVELS + 1];
    int i;
    strcpy(path, start);
    for (i = 0; i <= LEVELS; i++) {
        if (i) strcat(path, LEVEL);
        ends[i] = strlen(path);
        if (fs->make_folder(fs->user, path)) return printf("no folder %d\n", i), 1;
        sprintf(file, "%s/a file.\xc3\xa4", path);
        sprintf(other, "%s/another", path);
        if (awq__file_save(ctx, file, "text", 4)) return fail(ctx, "save");
        if (fs->rename(fs->user, file, other) || awq__file_exists(ctx, file)) return printf("not renamed, %d\n", i), 1;
        if (awq__file_load(ctx, other, 100, &data, &n)) return fail(ctx, "load");
        if (n != 4 || memcmp(data, "text", 4)) return printf("other text\n"), 1;
        awq__free(ctx, data);
        if (fs->remove(fs->user, other)) return printf("not removed, %d\n", i), 1;
    }
    if (strlen(path) < 300) return printf("not long\n"), 1;
    for (i = LEVELS; i >= 0; i--) {
        path[ends[i]] = 0;
        if (fs->remove(fs->user, path)) return printf("folder %d is not removed\n", i), 1;
    }
    while (strlen(path) + sizeof LEVEL < LONGEST) strcat(path, LEVEL); /* longer than any system takes */
    if (awq__file_load(ctx, path, 100, &data, &n) != AWQ_E_IO || awq__file_save(ctx, path, "text", 4) != AWQ_E_IO)
        return printf("too long, and yet\n"), 1;
    if (strlen(ctx->err.text) < 30 || !strstr(ctx->err.text, ": cannot open for writing: ")) return fail(ctx, "no reason");
    if (awq__file_load(ctx, "no\xff.json", 100, &data, &n) != AWQ_E_IO) return printf("not UTF-8, and yet\n"), 1;
    return 0;
}

int main(void)
{
    static char start[LONGEST];
    awq_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
#ifdef _WIN32
    if (forms()) return 1;
#endif
    awq__os_make_folder(NULL, "build");
    if (try_at(&ctx, "build/paths")) return 1;
    if (here(start, sizeof start - 64)) return printf("no current folder\n"), 1;
    strcat(start, "/build/paths");
    if (try_at(&ctx, start)) return 1;
    if (ctx.memory_used) return printf("memory is left\n"), 1;
    puts("long, odd and too long paths");
    return 0;
}
