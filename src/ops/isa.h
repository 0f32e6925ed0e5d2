// Every NAME_cpu.c is compiled once per instruction set, with ELBO_ISA_SUFFIX set by the build to base, v3 or v4. ISA(x) names the
// variant's symbol; functions that stay inside the file are static and need no ISA().
#ifndef OPS_ISA_H
#define OPS_ISA_H

#ifndef ELBO_ISA_SUFFIX
#define ELBO_ISA_SUFFIX base
#endif
#define ISA_PASTE2(a, b) a##_##b
#define ISA_PASTE(a, b) ISA_PASTE2(a, b)
#define ISA(name) ISA_PASTE(name, ELBO_ISA_SUFFIX)
#define ISA_STR2(x) #x
#define ISA_STR(x) ISA_STR2(x)
#define ISA_TEXT ISA_STR(ELBO_ISA_SUFFIX) // "v3", for kernel names: "own:gemm." ISA_TEXT

#endif
