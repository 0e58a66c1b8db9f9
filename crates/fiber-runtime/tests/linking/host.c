/* A program without the runtime that loads a library which has it, and asks whether its hooks are in place. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **words)
{
	char *(*state)(void);
	void *library = count == 2 ? dlopen(words[1], RTLD_NOW) : 0;
	if (!library) {
		printf("dlopen: %s\n", dlerror());
		return 2;
	}
	*(void **)&state = dlsym(library, "hook_state");
	if (!state) {
		printf("dlsym: %s\n", dlerror());
		return 2;
	}
	printf("%s\n", state());
	return 0;
}
