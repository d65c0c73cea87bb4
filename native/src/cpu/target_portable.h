// First include of a kernel file that is compiled for any CPU: plain loops over lanes, which NEON compilers vectorise.
#pragma once

#define WS_VECTOR_PORTABLE 1
#define WS_ISA portable
