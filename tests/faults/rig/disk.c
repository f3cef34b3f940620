/* Makes file operations below one directory fail or wait, and moves the wall clock, in the process that preloads this.
 *
 * RIG_CONTROL names a file of at least 64 bytes that both sides map: see the fields below. RIG_PATH is a part of the
 * paths of the affected files. Nothing is changed while `mode` and `clock_s` are 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { SYNC_EIO = 1, WRITE_EIO = 2, SYNC_SLOW = 4, WRITE_ENOSPC = 8, WRITE_SHORT = 16, OPEN_EROFS = 32 };

struct control {
    int mode;      /* which of the above */
    int delay_ms;  /* of SYNC_SLOW */
    int left;      /* number of operations that fail before `mode` returns to 0; 0: no limit */
    int hits;      /* number of operations that failed or waited */
    long clock_s;  /* added to the wall clock */
};

static volatile struct control *control;
static const char *where;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("RIG_CONTROL");
    where = getenv("RIG_PATH");
    if (!path)
        return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        control = mapped;
}

/* Whether a descriptor is one of the affected files. */
static int meant(int fd)
{
    char link[64], path[4096];
    if (!control || !control->mode || !where)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return strstr(path, where) != 0;
}

/* Whether this operation fails; counts it if so. */
static int fails(int bit)
{
    if (!(control->mode & bit))
        return 0;
    __sync_fetch_and_add((int *)&control->hits, 1);
    if (0 < control->left && __sync_sub_and_fetch((int *)&control->left, 1) == 0)
        control->mode &= ~bit;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int failed_sync(int fd)
{
    if (!meant(fd))
        return 0;
    if (fails(SYNC_SLOW)) {
        struct timespec pause = {control->delay_ms / 1000, control->delay_ms % 1000 * 1000000L};
        nanosleep(&pause, 0);
    }
    return fails(SYNC_EIO) ? EIO : 0;
}

static int failed_write(int fd)
{
    if (!meant(fd))
        return 0;
    return fails(WRITE_EIO) ? EIO : fails(WRITE_ENOSPC) ? ENOSPC : 0;
}

#define SYNC(name) \
    int name(int fd) \
    { \
        REAL(name); \
        int error = failed_sync(fd); \
        if (error) { \
            errno = error; \
            return -1; \
        } \
        return real(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
    REAL(sync_file_range);
    int error = failed_sync(fd);
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd, offset, length, flags);
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *bytes, size_t count, offset_t offset) \
    { \
        REAL(name); \
        int error = failed_write(fd); \
        if (error) { \
            errno = error; \
            return -1; \
        } \
        if (8 < count && meant(fd) && fails(WRITE_SHORT)) \
            count /= 2; \
        return real(fd, bytes, count, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t count)
{
    REAL(write);
    int error = failed_write(fd);
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd, bytes, count);
}

int ftruncate64(int fd, off64_t length)
{
    REAL(ftruncate64);
    int error = failed_write(fd);
    if (error) {
        errno = error;
        return -1;
    }
    return real(fd, length);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        int writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT; \
        if (control && control->mode && where && writes && strstr(path, where) && fails(OPEN_EROFS)) { \
            errno = EROFS; \
            return -1; \
        } \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    int outcome = real(clock, now);
    if (outcome == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += control->clock_s;
    return outcome;
}
