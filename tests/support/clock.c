/* Preloaded into a program: its time() is the number in the file $CLOCK_FILE, an RTC that stands still until it is set. */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

time_t time(time_t *result) {
    long now = 0;
    const char *path = getenv("CLOCK_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (fscanf(file, "%ld", &now) != 1) {
            now = 0;
        }
        fclose(file);
    }
    if (result) {
        *result = now;
    }
    return now;
}
