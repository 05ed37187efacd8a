// Memory that the CPU driver works in.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace poolzoo {

// A thread's memory for one call after another: a small call would spend a fifth of its time in malloc.
class Scratch {
    static constexpr size_t kCapacity = 1 << 18;
    static constexpr std::align_val_t kLine{64};
    char* memory_ = nullptr;
    size_t used_ = 0, held_ = 0;  // bytes, pieces

  public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    ~Scratch() { ::operator delete(memory_, kLine); }
    static Scratch& own() {
        thread_local Scratch scratch;
        return scratch;
    }
    void* take(size_t bytes) {
        bytes = (bytes + 63) & ~size_t{63};
#ifndef __SANITIZE_ADDRESS__  // which should see where each piece ends
        if (memory_ == nullptr) memory_ = static_cast<char*>(::operator new(kCapacity, kLine));
        if (bytes <= kCapacity - used_) {
            held_++, used_ += bytes;
            return memory_ + used_ - bytes;
        }
#endif
        return ::operator new(bytes, kLine);
    }
    void give_back(void* piece) {
        const bool own = memory_ != nullptr && piece >= memory_ && piece < memory_ + kCapacity;
        if (!own) return ::operator delete(piece, kLine);
        if (--held_ == 0) used_ = 0;
    }
};

// A vector's memory, aligned to the processor's vectors: a load that straddles two cache lines costs two. It lives within
// a call, and in one thread.
template <class T>
struct Aligned {
    using value_type = T;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(size_t n) { return static_cast<T*>(Scratch::own().take(n * sizeof(T))); }
    void deallocate(T* p, size_t) { Scratch::own().give_back(p); }
    bool operator==(const Aligned&) const { return true; }
};
template <class T>
using Buffer = std::vector<T, Aligned<T>>;

// Without zeros at first.
template <class T>
struct Unset : Aligned<T> {
    template <class U>
    struct rebind {
        using other = Unset<U>;
    };
    void construct(T*) {}
};
template <class T>
using UnsetBuffer = std::vector<T, Unset<T>>;

}  // namespace poolzoo
