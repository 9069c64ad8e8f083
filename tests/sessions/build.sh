# Builds a small program, as a kernel is built: make, a compiler per file, a link.
set -e
cd "$1"
for n in 1 2 3; do
  printf '#include <stdio.h>\n#include "all.h"\nint f%s(void) { return printf("%s"); }\n' $n $n > f$n.c
done
printf 'int f1(void); int f2(void); int f3(void);\n' > all.h
printf '#include "all.h"\nint main(void) { return f1() + f2() + f3() == 0; }\n' > main.c
cat > Makefile <<'END'
OBJECTS = main.o f1.o f2.o f3.o
program: $(OBJECTS)
	cc -o $@ $(OBJECTS)
%.o: %.c all.h
	cc -c -o $@ $<
clean:
	rm -f program *.o
END
make -s
./program
make -s clean
