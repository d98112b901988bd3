// What the kernels need of a processor and this one lacks. Built for any, and asked before they are loaded.
#include <Python.h>

#if defined(__x86_64__)
#include <cpuid.h>

// Whether the system keeps the registers of AVX when it changes threads.
static int registers_are_kept(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}
#endif

static PyObject* missing(PyObject* self, PyObject* unused) {
    (void)self, (void)unused;
    PyObject* names = PyList_New(0);
#if defined(__x86_64__)
    unsigned a, b = 0, c = 0, d, more_b = 0, more_c, more_d;
    __get_cpuid(1, &a, &b, &c, &d);
    __get_cpuid_count(7, 0, &a, &more_b, &more_c, &more_d);
    const int avx = (c & bit_OSXSAVE) && (c & bit_AVX) && registers_are_kept();
    const char* const wanted[] = {"avx2", "fma", "bmi", "bmi2"};
    const int there[] = {avx && (more_b & bit_AVX2), avx && (c & bit_FMA), more_b & bit_BMI, more_b & bit_BMI2};
    for (int i = 0; names != NULL && i < 4; i++) {
        PyObject* name = there[i] ? NULL : PyUnicode_FromString(wanted[i]);
        if (!there[i] && (name == NULL || PyList_Append(names, name) < 0)) Py_CLEAR(names);
        Py_XDECREF(name);
    }
#endif
    return names;
}

static PyMethodDef methods[] = {{"missing", missing, METH_NOARGS, "Names of the instructions that are not there."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_processor", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__processor(void) { return PyModule_Create(&module); }
