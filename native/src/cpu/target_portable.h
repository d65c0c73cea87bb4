// First include of a kernel file that is compiled for any CPU: plain loops over lanes, which NEON compilers vectorise.
#pragma once

#if defined(WS_ISA)
#error "a target_*.h comes before every other kernel header, once"
#endif

#define WS_VECTOR_PORTABLE 1
#define WS_ISA portable
