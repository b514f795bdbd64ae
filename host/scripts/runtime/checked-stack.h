/* QuickJS does not check its stack under WASI, and a recursion without end would be a trap of which nobody
   knows the line. It does where it does not know that it runs there: the system's headers have to know, and
   are read here, before its own files. To go when quickjs-ng checks the stack under WASI, too. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fenv.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#undef __wasi__
/* What it does with this is the same as with the above: it asks malloc how large an allocation is. */
#define __GLIBC__ 2
