#!/bin/sh
# What `make install` puts in place works from there, and shows nothing that is not public.
. "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
if [ -n "${ELBO_SANITIZE:-}" ]; then
  echo "skipped: sanitizer builds are not installed"
  exit 77
fi
expect 0 cmake --install "$ELBO_BUILD" --prefix "$work/root"
for file in bin/elbo include/elbo/model.h share/man/man1/elbo.1 share/bash-completion/completions/elbo share/elbo/recipes/bench/mlp-vae.yaml; do
  is_file "root/$file"
done
# Recipes and digits are found where the installation lies, wherever it was moved to and however it is called.
mv root moved
echo "# another recipe of that name" >moved/share/elbo/recipes/vae.yaml
echo "train: {steps: 17}" >>moved/share/elbo/recipes/vae.yaml
expect 0 moved/bin/elbo train --list
says "another recipe of that name"
(cd / && PATH=$work/moved/bin:$PATH && elbo train --list) | grep -q "another recipe" || note_failure "an installation found through PATH does not find its recipes"
rm moved/share/elbo/digits/*
expect 1 moved/bin/elbo data digits
complains "moved/share/elbo/digits"
mv moved root
expect 0 cmake --install "$ELBO_BUILD" --prefix "$work/root"
library=$(dirname "$(find root -name libelbo.a)")
expect 0 root/bin/elbo --version
nm -D --defined-only "$library/libelbo.so" | awk '$2 ~ /[A-Z]/ {print $3}' | grep -v '^elbo_' >foreign
[ ! -s foreign ] || note_failure "libelbo.so shows $(head -n 3 foreign | tr '\n' ' ')"
nm --defined-only --extern-only "$library/libelbo.a" 2>/dev/null | awk 'NF == 3 {print $3}' | grep -v '^elbo_' >foreign
[ ! -s foreign ] || note_failure "libelbo.a shows $(head -n 3 foreign | tr '\n' ' ')"
# Everything that the headers promise is there.
grep -rhoE '\belbo_[a-z0-9_]+\(' root/include/elbo | tr -d '(' | sort -u >promised
nm -D --defined-only "$library/libelbo.so" | awk '{print $3}' | sort -u >present
for name in $(comm -23 promised present); do
  grep -rqE "ELBO_API[^;]*\b$name\(" root/include/elbo && note_failure "libelbo.so lacks $name"
done

cat >user.c <<'END'
#include <elbo/bench.h>
#include <elbo/model.h>
#include <elbo/train.h>
#include <stdio.h>
int main(void) {
  elbo_ctx *ctx = NULL;
  char message[256];
  if (elbo_ctx_create(NULL, message, sizeof message, &ctx) != ELBO_OK) return puts(message), 1;
  printf("%s %s\n", elbo_version(), elbo_ctx_isa(ctx));
  elbo_ctx_destroy(&ctx);
  return 0;
}
END
export PKG_CONFIG_PATH="$work/$library/pkgconfig"
sed -i "s|^prefix=.*|prefix=$work/root|; s|^libdir=.*|libdir=$work/$library|; s|^includedir=.*|includedir=\${prefix}/include|" "$library/pkgconfig/elbo.pc"
expect 0 ${CC:-cc} user.c $(pkg-config --cflags elbo) -o shared $(pkg-config --libs elbo) -Wl,-rpath,"$work/$library"
expect 0 ./shared
says "[0-9]"
expect 0 ${CC:-cc} user.c $(pkg-config --cflags elbo) -o static "$library/libelbo.a" $(pkg-config --libs --static elbo | sed 's/-lelbo//')
expect 0 ./static

if command -v g++ >/dev/null 2>&1; then
  expect 0 g++ -std=c++17 -Wall -Wextra -Werror -x c++ user.c -x none $(pkg-config --cflags elbo) -o plus $(pkg-config --libs elbo) -Wl,-rpath,"$work/$library"
  expect 0 ./plus
fi

mkdir project
cp user.c project/
cat >project/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.20)
project(user C)
find_package(elbo REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE elbo::elbo)
add_executable(user_static user.c)
target_link_libraries(user_static PRIVATE elbo::static)
END
expect 0 cmake -S project -B project/build -DCMAKE_PREFIX_PATH="$work/root" -DCMAKE_C_COMPILER="${CC:-cc}"
expect 0 cmake --build project/build
expect 0 project/build/user
expect 0 project/build/user_static
finish
