/*
 * The client of the micro rows: one system call again and again, so that nearly all of the time
 * is the file system's.  It prints the seconds and how many calls they were for.  Where a COUNT
 * or TIMES of calls is alike, two seconds of them are enough.
 *
 *   client getattr FILE COUNT
 *   client open FILE COUNT
 *   client missing DIR COUNT
 *   client read FILE SIZE FIRST COUNT     blocks FIRST to FIRST+COUNT, once each, in disorder
 *   client random FILE SIZE COUNT         any blocks, with the kernel's own read-ahead
 *   client scan FILE                      a byte of each page, by mmap(2)
 *   client list DIR COUNT
 *   client create DIR COUNT SIZE
 *   client stat TIMES <NAMES              lstat(2) of each line
 *   client openall TIMES <NAMES           open(2) and close(2) of each line
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int done(double started, long count)
{
    printf("%.9f %ld\n", now() - started, count);
    return 0;
}

/* Whether another call is to be made, after *made* of *count*; the clock is read now and then. */
static int more(double started, long made, long count)
{
    return made < count && (made % 64 != 63 || now() - started < 2);
}

static long number(const char *word)
{
    char *end;
    long found = strtol(word, &end, 10);
    if (*end || end == word || found < 0)
        errx(2, "%s: not a number", word);
    return found;
}

/* The same sequence in each run: xorshift64 by Marsaglia, 2003. */
static uint64_t state = 88172645463325252ULL;

static uint64_t any(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void *allocated(size_t size)
{
    void *found = malloc(size ? size : 1);
    if (!found)
        err(1, "malloc");
    return found;
}

static int opened(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        err(1, "%s", path);
    return fd;
}

static int getattr(const char *path, long count)
{
    struct statx found;
    int fd = opened(path, O_PATH);
    double started = now();
    long i;
    for (i = 0; more(started, i, count); i++)
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &found))
            err(1, "statx %s", path);
    return done(started, i);
}

static int open_close(const char *path, long count)
{
    double started = now();
    long i;
    for (i = 0; more(started, i, count); i++)
        close(opened(path, O_RDONLY));
    return done(started, i);
}

static int missing(const char *folder, long count)
{
    char path[PATH_MAX];
    struct stat found;
    double started = now();
    long i;
    for (i = 0; more(started, i, count); i++) {
        /* Another client has asked for other names. */
        snprintf(path, sizeof path, "%s/no-%d-%ld", folder, (int)getpid(), i);
        if (!lstat(path, &found) || errno != ENOENT)
            err(1, "%s is there", path);
    }
    return done(started, i);
}

static void read_block(int fd, char *buffer, size_t size, long block)
{
    if (pread(fd, buffer, size, (off_t)block * size) != (ssize_t)size)
        err(1, "block %ld of %zu bytes", block, size);
}

static int read_once(const char *path, long size, long first, long count)
{
    int fd = opened(path, O_RDONLY);
    char *buffer = allocated(size);
    long *blocks = allocated(count * sizeof *blocks);
    for (long i = 0; i < count; i++) {
        long other = any() % (i + 1);
        blocks[i] = blocks[other];
        blocks[other] = first + i;
    }
    /* Without read-ahead each block is a request of its own. */
    errno = posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    if (errno)
        err(1, "fadvise %s", path);
    double started = now();
    for (long i = 0; i < count; i++)
        read_block(fd, buffer, size, blocks[i]);
    return done(started, count);
}

static long blocks_of(int fd, long size)
{
    struct stat found;
    if (fstat(fd, &found) || found.st_size < size)
        errx(1, "less than one block");
    return found.st_size / size;
}

static int read_anywhere(const char *path, long size, long count)
{
    int fd = opened(path, O_RDONLY);
    char *buffer = allocated(size);
    long blocks = blocks_of(fd, size);
    double started = now();
    for (long i = 0; i < count; i++)
        read_block(fd, buffer, size, any() % blocks);
    return done(started, count);
}

static int scan(const char *path)
{
    double started = now();
    int fd = opened(path, O_RDONLY);
    long page = sysconf(_SC_PAGESIZE), pages = blocks_of(fd, page);
    volatile const char *found = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, 0);
    if (found == MAP_FAILED)
        err(1, "mmap %s", path);
    for (long i = 0; i < pages; i++)
        (void)found[i * page];
    return done(started, pages);
}

static int list(const char *path, long count)
{
    double started = now();
    long i;
    for (i = 0; more(started, i, count); i++) {
        DIR *folder = opendir(path);
        if (!folder)
            err(1, "%s", path);
        errno = 0;
        while (readdir(folder))
            ;
        if (errno)
            err(1, "%s", path);
        closedir(folder);
    }
    return done(started, i);
}

static int create(const char *folder, long count, long size)
{
    char path[PATH_MAX], *content = allocated(size);
    memset(content, 'x', size);
    double started = now();
    for (long i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/file-%ld", folder, i);
        int fd = opened(path, O_WRONLY | O_CREAT | O_EXCL);
        if (write(fd, content, size) != size || close(fd))
            err(1, "%s", path);
    }
    return done(started, count);
}

static char **names;
static long names_count;

static void read_names(void)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        line[length - 1] = 0;
        if (!(names_count & (names_count + 1)) &&
            !(names = realloc(names, 2 * (names_count + 1) * sizeof *names)))
            err(1, "realloc");
        names[names_count++] = line;
        line = NULL;
        room = 0;
    }
}

static int stat_each(long times)
{
    struct stat found;
    read_names();
    double started = now();
    for (long turn = 0; turn < times; turn++)
        for (long i = 0; i < names_count; i++)
            if (lstat(names[i], &found))
                err(1, "%s", names[i]);
    return done(started, times * names_count);
}

static int open_each(long times)
{
    read_names();
    double started = now();
    long i;
    for (i = 0; more(started, i, times * names_count); i++)
        close(opened(names[i % names_count], O_RDONLY));
    return done(started, i);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
#define IS(NAME, COUNT) (!strcmp(what, NAME) && argc == 2 + (COUNT))
    if (IS("getattr", 2))
        return getattr(argv[2], number(argv[3]));
    if (IS("open", 2))
        return open_close(argv[2], number(argv[3]));
    if (IS("missing", 2))
        return missing(argv[2], number(argv[3]));
    if (IS("read", 4))
        return read_once(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
    if (IS("random", 3))
        return read_anywhere(argv[2], number(argv[3]), number(argv[4]));
    if (IS("scan", 1))
        return scan(argv[2]);
    if (IS("list", 2))
        return list(argv[2], number(argv[3]));
    if (IS("create", 3))
        return create(argv[2], number(argv[3]), number(argv[4]));
    if (IS("stat", 1))
        return stat_each(number(argv[2]));
    if (IS("openall", 1))
        return open_each(number(argv[2]));
    errx(2, "%s: what is to be done is said in the source", what);
}
