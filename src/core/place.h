// Where what comes with the library lies.
#ifndef CORE_PLACE_H
#define CORE_PLACE_H

#include <stdbool.h>
#include <stddef.h>

// PREFIX/share/elbo/NAME ("recipes"), where PREFIX is the first folder above this library's (or the program's, where it is part of one)
// that has it: an installation may be moved. false: there is none.
bool place_beside(const char *name, char *out, size_t size);

#endif
