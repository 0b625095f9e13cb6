/* A disk that fails on demand, and a witness of what was written when.
 *
 * Loaded with LD_PRELOAD it stands between a process and libc for the calls that change files below one folder:
 * creating open, write, pwrite, pwritev, fsync, fdatasync, rename, ftruncate, unlink, mkdir, rmdir. It numbers them
 * from 1. fault_arm makes some of them fail, or kill the process, and writes all of them to a log (journal.py reads
 * it), together with what the process says on stdout and stderr. It does nothing until it is armed. Memory maps pass unseen:
 * SQLite uses one for its -shm file, which it makes anew after a crash. So does what libc writes by itself (fwrite,
 * which numpy's tofile uses).
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];        /* empty: not armed */
static long calls, first, second;  /* numbers that fail, 0 for none */
static int error_number, lasting;  /* errno, or 0 to die at the call; lasting: all from the first on */
static int witness = -1;           /* the log */

void fault_arm(const char *folder, long one, long other, int error, int lasts, const char *log) {
    calls = 0, first = one, second = other, error_number = error, lasting = lasts;
    witness = *log ? REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    snprintf(root, sizeof root, "%s", folder);
}

long fault_calls(void) { return calls; }

static int below(const char *path) {
    size_t length = strlen(root);
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

/* The absolute path of a name, links in it not resolved: tests use none. */
static const char *absolute(const char *name, char *path) {
    if (*name == '/') return name;
    if (!getcwd(path, PATH_MAX)) return "";
    size_t used = strlen(path);
    snprintf(path + used, PATH_MAX - used, "/%s", name);
    return path;
}

static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

/* Count a call; return the error that it is to fail with, or 0. A full disk still lets go of files. */
static int verdict(int takes_space) {
    calls++;
    if (calls == first || calls == second) {
        if (!error_number) kill(getpid(), SIGKILL);
        return error_number;
    }
    return lasting && calls > first && first && (takes_space || error_number != ENOSPC) ? error_number : 0;
}

static void note(const char *call, int error, long offset, size_t length, const char *path, const char *other,
                 const void *data) {
    if (witness < 0) return;
    char line[2 * PATH_MAX + 100];
    int size = snprintf(line, sizeof line, "%s\t%d\t%ld\t%zu\t%s\t%s\n", call, error, offset, length, path, other);
    struct iovec parts[] = {{line, size}, {(void *)data, length}};
    if (REAL(writev)(witness, parts, length ? 2 : 1) < 0) _exit(99);
}

#define GUARDED(call, takes_space, path, other, expression)         \
    pthread_mutex_lock(&mutex);                                     \
    int refused = verdict(takes_space);                             \
    long result = refused ? (errno = refused, -1) : (expression);   \
    int kept = errno;                                               \
    note(call, result < 0 ? kept : 0, -1, 0, path, other, NULL);    \
    pthread_mutex_unlock(&mutex);                                   \
    errno = kept;                                                   \
    return result;

static ssize_t guarded_write(int fd, const void *data, size_t length, off_t offset, int placed) {
    char path[PATH_MAX];
    __typeof__(&pwrite) write_at = REAL(pwrite);
    __typeof__(&write) write_on = REAL(write);
    int said = witness >= 0 && (fd == 1 || fd == 2);
    if (!*root || (!said && !below(path_of(fd, path))))
        return placed ? write_at(fd, data, length, offset) : write_on(fd, data, length);
    pthread_mutex_lock(&mutex);
    int refused = said ? 0 : verdict(1);
    if (!placed) offset = said ? fd : lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t result = -1;
    if (refused) errno = refused;
    else result = placed ? write_at(fd, data, length, offset) : write_on(fd, data, length);
    int kept = errno;
    note(said ? "say" : "write", result < 0 ? kept : 0, offset, result < 0 ? 0 : result, said ? "-" : path, "-", data);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return result;
}

ssize_t write(int fd, const void *data, size_t length) { return guarded_write(fd, data, length, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return guarded_write(fd, data, length, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return guarded_write(fd, data, length, at, 1); }

static ssize_t guarded_gather(int fd, const struct iovec *parts, int count, off_t offset, int placed) {
    ssize_t done = 0; /* part by part: a short count is a legal answer */
    for (int i = 0; i < count; i++) {
        ssize_t now = guarded_write(fd, parts[i].iov_base, parts[i].iov_len, offset + done, placed);
        if (now < 0) return done ? done : now;
        done += now;
        if ((size_t)now < parts[i].iov_len) break;
    }
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (!*root || !below(path_of(fd, path))) return REAL(writev)(fd, parts, count);
    return guarded_gather(fd, parts, count, 0, 0);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return guarded_gather(fd, parts, count, at, 1); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return guarded_gather(fd, parts, count, at, 1); }

#define ON_HANDLE(call, name, takes_space, ...)                                       \
    char path[PATH_MAX];                                                              \
    __typeof__(&name) real = REAL(name);                                              \
    if (!*root || !below(path_of(fd, path))) return real(__VA_ARGS__);                \
    GUARDED(call, takes_space, path, "-", real(__VA_ARGS__))

int fsync(int fd) { ON_HANDLE("fsync", fsync, 1, fd) }
int fdatasync(int fd) { ON_HANDLE("fsync", fdatasync, 1, fd) }

static int guarded_truncate(int fd, off_t length) {
    char path[PATH_MAX];
    __typeof__(&ftruncate) real = REAL(ftruncate);
    if (!*root || !below(path_of(fd, path))) return real(fd, length);
    struct stat now;
    int grows = !fstat(fd, &now) && now.st_size < length;
    pthread_mutex_lock(&mutex);
    int refused = verdict(grows);
    int result = refused ? (errno = refused, -1) : real(fd, length);
    int kept = errno;
    note("truncate", result < 0 ? kept : 0, length, 0, path, "-", NULL);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return result;
}
int ftruncate(int fd, off_t length) { return guarded_truncate(fd, length); }
int ftruncate64(int fd, off64_t length) { return guarded_truncate(fd, length); }

#define ON_NAME(call, name, takes_space, ...)                                         \
    char space[PATH_MAX];                                                             \
    __typeof__(&name) real = REAL(name);                                              \
    const char *path = absolute(file, space);                                         \
    if (!*root || !below(path)) return real(__VA_ARGS__);                             \
    GUARDED(call, takes_space, path, "-", real(__VA_ARGS__))

int unlink(const char *file) { ON_NAME("unlink", unlink, 0, file) }
int unlinkat(int at, const char *file, int flags) {
    char space[PATH_MAX], place[PATH_MAX + NAME_MAX + 2];
    __typeof__(&unlinkat) real = REAL(unlinkat);
    if (at == AT_FDCWD || *file == '/') snprintf(place, sizeof place, "%s", absolute(file, space));
    else snprintf(place, sizeof place, "%s/%s", path_of(at, space), file); /* as shutil.rmtree works */
    if (!*root || !below(place)) return real(at, file, flags);
    GUARDED(flags & AT_REMOVEDIR ? "rmdir" : "unlink", 0, place, "-", real(at, file, flags))
}
int rmdir(const char *file) { ON_NAME("rmdir", rmdir, 0, file) }
int mkdir(const char *file, mode_t mode) { ON_NAME("mkdir", mkdir, 1, file, mode) }

int rename(const char *from, const char *to) {
    char space[PATH_MAX], other_space[PATH_MAX];
    __typeof__(&rename) real = REAL(rename);
    const char *path = absolute(from, space), *other = absolute(to, other_space);
    if (!*root || !below(other)) return real(from, to);
    GUARDED("rename", 0, path, other, real(from, to))
}
int renameat(int from_at, const char *from, int to_at, const char *to) {
    if (from_at == AT_FDCWD && to_at == AT_FDCWD) return rename(from, to);
    return REAL(renameat)(from_at, from, to_at, to);
}

/* Only an open that makes a new file counts. */
#define OPENING(name, call_real)                                                      \
    mode_t mode = 0;                                                                  \
    if (flags & (O_CREAT | O_TMPFILE)) {                                              \
        va_list rest;                                                                 \
        va_start(rest, flags);                                                        \
        mode = va_arg(rest, mode_t);                                                  \
        va_end(rest);                                                                 \
    }                                                                                 \
    char space[PATH_MAX];                                                             \
    __typeof__(&name) real = REAL(name);                                              \
    const char *path = absolute(file, space);                                         \
    struct stat there;                                                                \
    if (!*root || !below(path)) return call_real;                                     \
    if (!(flags & O_CREAT) || !stat(path, &there)) {                                  \
        int handle = call_real;                                                       \
        if (handle >= 0 && flags & O_TRUNC) note("truncate", 0, 0, 0, path, "-", NULL); \
        return handle;                                                                \
    }                                                                                 \
    GUARDED("create", 1, path, "-", call_real)

int open(const char *file, int flags, ...) { OPENING(open, real(file, flags, mode)) }
int open64(const char *file, int flags, ...) { OPENING(open64, real(file, flags, mode)) }
int openat(int at, const char *file, int flags, ...) { OPENING(openat, real(at, file, flags, mode)) }
int openat64(int at, const char *file, int flags, ...) { OPENING(openat64, real(at, file, flags, mode)) }
