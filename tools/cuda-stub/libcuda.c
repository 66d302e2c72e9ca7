/* A CUDA driver without a GPU: it says that an H100 or H200 is there (compute capability 9.0), keeps
 * "device" memory in the host's, and accepts every kernel without running it. What a program compiles for
 * CUDA is then compiled in full, by NVIDIA's own compiler; what it computes means nothing.
 *
 * See README.md beside this file. Only what CubeCL calls is here.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Pointer;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101 };

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

/* Devices. */

Result cuInit(unsigned flags) { (void)flags; return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = number("CUDA_STUB_DEVICES", 2); return SUCCESS; }
Result cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal < number("CUDA_STUB_DEVICES", 2) ? SUCCESS : INVALID_DEVICE;
}
Result cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "no GPU, stub %d", device);
    return SUCCESS;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
    *bytes = (size_t)141 << 30;
    return SUCCESS;
}
Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *free_bytes = *total = (size_t)141 << 30;
    return SUCCESS;
}
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 1: *value = 1024; break;           /* threads of a block */
    case 2: case 3: *value = 1024; break;   /* its sides */
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;     /* sides of the grid */
    case 6: case 7: *value = 65535; break;
    case 10: *value = 32; break;            /* warp */
    case 16: *value = 132; break;           /* multiprocessors */
    case 75: *value = number("CUDA_STUB_CAPABILITY", 90) / 10; break;
    case 76: *value = number("CUDA_STUB_CAPABILITY", 90) % 10; break;
    case 97: *value = 232448; break;        /* shared memory of a block, at most */
    default: *value = 1; break;             /* whether it can do something: it can */
    }
    return SUCCESS;
}
Result cuDeviceCanAccessPeer(int *can, int device, int peer) {
    (void)device, (void)peer;
    *can = 1;
    return SUCCESS;
}

/* Contexts, streams and events: everything has happened when its call returns. */

static char handle;
static Result give(void **out) { *out = &handle; return SUCCESS; }

Result cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; return give(context); }
Result cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return SUCCESS; }
Result cuCtxSetCurrent(void *context) { (void)context; return SUCCESS; }
Result cuCtxGetCurrent(void **context) { return give(context); }
Result cuCtxSynchronize(void) { return SUCCESS; }
Result cuCtxEnablePeerAccess(void *context, unsigned flags) { (void)context, (void)flags; return SUCCESS; }
Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return SUCCESS; }
Result cuStreamCreate(void **stream, unsigned flags) { (void)flags; return give(stream); }
Result cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)flags, (void)priority;
    return give(stream);
}
Result cuStreamDestroy_v2(void *stream) { (void)stream; return SUCCESS; }
Result cuStreamSynchronize(void *stream) { (void)stream; return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    (void)stream, (void)event, (void)flags;
    return SUCCESS;
}
Result cuEventCreate(void **event, unsigned flags) { (void)flags; return give(event); }
Result cuEventDestroy_v2(void *event) { (void)event; return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { (void)event, (void)stream; return SUCCESS; }
Result cuEventSynchronize(void *event) { (void)event; return SUCCESS; }
Result cuEventQuery(void *event) { (void)event; return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, void *start, void *end) {
    (void)start, (void)end;
    *ms = 0;
    return SUCCESS;
}

/* Memory: zeros, until something is copied into it. */

static struct { char *start; size_t bytes; } blocks[1 << 16];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The block that holds an address, or the first free place where that is NULL; -1 if there is none. */
static int block_of(const char *address) {
    for (int i = 0; i < (int)(sizeof blocks / sizeof *blocks); i++) {
        char *start = blocks[i].start;
        if (address ? start && address >= start && address < start + blocks[i].bytes : !start) return i;
    }
    return -1;
}
static Result allocate(Pointer *pointer, size_t bytes) {
    char *memory = calloc(bytes ? bytes : 1, 1);
    pthread_mutex_lock(&lock);
    int place = memory ? block_of(NULL) : -1;
    if (place >= 0) blocks[place].start = memory, blocks[place].bytes = bytes;
    pthread_mutex_unlock(&lock);
    *pointer = (Pointer)(uintptr_t)memory;
    return place >= 0 ? SUCCESS : OUT_OF_MEMORY;
}
static Result release(Pointer pointer) {
    char *memory = (char *)(uintptr_t)pointer;
    pthread_mutex_lock(&lock);
    int place = memory ? block_of(memory) : -1;
    if (place >= 0) blocks[place].start = NULL;
    pthread_mutex_unlock(&lock);
    free(memory);
    return SUCCESS;
}
static Result copy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); return SUCCESS; }

Result cuMemAlloc_v2(Pointer *pointer, size_t bytes) { return allocate(pointer, bytes); }
Result cuMemAllocAsync(Pointer *pointer, size_t bytes, void *stream) { (void)stream; return allocate(pointer, bytes); }
Result cuMemFree_v2(Pointer pointer) { return release(pointer); }
Result cuMemFreeAsync(Pointer pointer, void *stream) { (void)stream; return release(pointer); }
Result cuMemAllocHost_v2(void **pointer, size_t bytes) { return allocate((Pointer *)pointer, bytes); }
Result cuMemFreeHost(void *pointer) { return release((Pointer)(uintptr_t)pointer); }
Result cuMemsetD8Async(Pointer pointer, unsigned char value, size_t bytes, void *stream) {
    (void)stream;
    memset((void *)(uintptr_t)pointer, value, bytes);
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *stream) {
    (void)stream;
    return copy((void *)(uintptr_t)to, from, bytes);
}
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *stream) {
    (void)stream;
    return copy(to, (void *)(uintptr_t)from, bytes);
}
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void *stream) {
    (void)stream;
    return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
}
Result cuMemcpyPeerAsync(Pointer to, void *a, Pointer from, void *b, size_t bytes, void *stream) {
    (void)a, (void)b, (void)stream;
    return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
}

/* CUDA_MEMCPY2D. */
typedef struct {
    size_t from_x, from_y;
    unsigned from_type;
    const void *from_host;
    Pointer from_device;
    void *from_array;
    size_t from_pitch;
    size_t to_x, to_y;
    unsigned to_type;
    void *to_host;
    Pointer to_device;
    void *to_array;
    size_t to_pitch;
    size_t width, height;
} Copy2D;
enum { HOST = 1, DEVICE = 2 };

Result cuMemcpy2DAsync_v2(const Copy2D *what, void *stream) {
    (void)stream;
    const char *from = what->from_type == HOST ? what->from_host : (void *)(uintptr_t)what->from_device;
    char *to = what->to_type == HOST ? what->to_host : (void *)(uintptr_t)what->to_device;
    size_t from_pitch = what->from_pitch ? what->from_pitch : what->width;
    size_t to_pitch = what->to_pitch ? what->to_pitch : what->width;
    for (size_t row = 0; row < what->height; row++) {
        memcpy(to + (what->to_y + row) * to_pitch + what->to_x,
               from + (what->from_y + row) * from_pitch + what->from_x, what->width);
    }
    return SUCCESS;
}

/* Kernels. With CUDA_STUB_PTX=FOLDER each one's PTX is kept there. */

Result cuModuleLoadData(void **module, const void *image) {
    static int count;
    const char *folder = getenv("CUDA_STUB_PTX");
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d-%d.ptx", folder, number("CUDA_STUB_RUN", 0), __sync_fetch_and_add(&count, 1));
        FILE *file = fopen(path, "w");
        if (!file || fputs(image, file) < 0 || fclose(file)) {
            fprintf(stderr, "cuda stub: cannot write %s\n", path);
            return INVALID_VALUE;
        }
    }
    return give(module);
}
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module, (void)name;
    return give(function);
}
Result cuFuncSetAttribute(void *function, int attribute, int value) {
    (void)function, (void)attribute;
    return value > 232448 ? INVALID_VALUE : SUCCESS;
}
Result cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned x,
                      unsigned y, unsigned z, unsigned shared, void *stream, void **arguments, void **extra) {
    (void)function, (void)shared, (void)stream, (void)extra;
    /* The one sum that is done: the program trusts no device on which one and one are not two. */
    float *first = arguments ? *(float **)arguments[0] : NULL;
    pthread_mutex_lock(&lock);
    if (first && grid_x == 1 && block_of((char *)first) >= 0 && *first == 1.0f) *first = 2.0f;
    pthread_mutex_unlock(&lock);
    int fits = grid_x >= 1 && grid_y >= 1 && grid_z >= 1 && grid_y <= 65535 && grid_z <= 65535 &&
               (uint64_t)x * y * z >= 1 && (uint64_t)x * y * z <= 1024;
    return fits ? SUCCESS : INVALID_VALUE;
}
Result cuTensorMapEncodeTiled(void *map) { (void)map; return SUCCESS; }
Result cuTensorMapEncodeIm2col(void *map) { (void)map; return SUCCESS; }

Result cuGetErrorName(Result error, const char **name) { (void)error; *name = "an error of the stub"; return SUCCESS; }
Result cuGetErrorString(Result error, const char **text) { return cuGetErrorName(error, text); }
