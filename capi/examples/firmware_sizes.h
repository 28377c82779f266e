/* What the firmware trains on, which its programs are planned for. */
#ifndef FIRMWARE_SIZES_H
#define FIRMWARE_SIZES_H

enum { BATCH = 4, SIZE = 32, CHANNELS = 3, PIXELS = CHANNELS * SIZE * SIZE, CLASSES = 3 };

#endif
