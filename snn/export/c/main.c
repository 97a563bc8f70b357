/* Reads samples from a file, one after the other, and prints for each its class, votes, spikes and synaptic
 * operations. A sample is SAMPLE_BYTES bytes, as README.md says. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "network.h"

static uint8_t sample[SAMPLE_BYTES];
static result_t result;

int main(int argc, char **argv) {
    const int timed = argc == 3 && strcmp(argv[2], "--time") == 0;
    FILE *file = argc == 2 || timed ? fopen(argv[1], "rb") : NULL;
    long number = 0;
    size_t read;
    clock_t spent = 0;
    if (!file) {
        fprintf(stderr, "usage: %s SAMPLES [--time]; SAMPLES is a file of %d bytes a sample\n", argv[0], SAMPLE_BYTES);
        return 2;
    }
    while ((read = fread(sample, 1, SAMPLE_BYTES, file)) == SAMPLE_BYTES) {
        const clock_t start = clock();
        run_network(sample, &result);
        spent += clock() - start;
        number++;
        printf("%s", CLASS_NAMES[result.class_index]);
        for (int k = 0; k < NUM_CLASSES; k++) printf(" %d", (int)result.votes[k]);
        printf(" %lld %lld\n", (long long)result.spikes, (long long)result.synops);
    }
    fclose(file);
    if (read) {
        fprintf(stderr, "%s ends in the middle of a sample: %d bytes are expected, %d are left\n", argv[1],
                SAMPLE_BYTES, (int)read);
        return 1;
    }
    if (timed && number) fprintf(stderr, "%.3f ms a sample\n", 1e3 * spent / CLOCKS_PER_SEC / number);
    return 0;
}
