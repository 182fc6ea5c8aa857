/* A disk that takes long to synchronize, for one process: preloaded, it delays fsync and fdatasync.
 *
 * The file that SLOW_SYNC names holds the milliseconds; without it nothing is delayed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void delay(void) {
    const char *path = getenv("SLOW_SYNC");
    FILE *file = path ? fopen(path, "re") : NULL;
    long ms = 0;
    if (!file) return;
    if (fscanf(file, "%ld", &ms) != 1) ms = 0;
    fclose(file);
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&wait, NULL);
}

int fsync(int file) {
    delay();
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(file);
}

int fdatasync(int file) {
    delay();
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(file);
}
