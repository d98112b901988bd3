// The rows of the last labelled events. See streammeta/engine/buffer.py.
#include <algorithm>
#include <deque>
#include <vector>

#include "array.hpp"

namespace streammeta {

namespace {

class Recent {
  public:
    explicit Recent(Index size) : size_(size) { require(size > 0, "Recent: wanted a size above 0"); }

    // Each of these rows, in order, has just learned a label.
    void add(Array<const int64_t, 1> rows) {
        for (Index i = 0; i < rows.size(); i++) {
            enter(rows[i]);
            if (Index(ring_.size()) - void_ > size_) leave_oldest();
        }
    }

    // This row holds its task no more.
    void drop(int64_t row) {
        if (row < 0 || size_t(row) >= known_.size() || !known_[size_t(row)].count) return;
        Known& known = known_[size_t(row)];
        known.gone += known.count;
        void_ += known.count;
        leave(row);
        if (void_ > size_) sweep();
    }

    // Take what is void out of the ring; in `drop` that would cost as much for every row.
    void sweep() {
        if (void_) {
            std::deque<int64_t> kept;
            for (const int64_t row : ring_) {
                if (Known& known = known_[size_t(row)]; known.gone) {
                    known.gone--;
                } else {
                    kept.push_back(row);
                }
            }
            ring_.swap(kept);
        }
        void_ = 0;
    }

    Index entries() const { return Index(ring_.size()); }
    Index alive() const { return Index(alive_.size()); }

    void copy_entries(Array<int64_t, 1> out) const {
        require(out.size() == entries(), "copy_entries: wanted room for all");
        std::copy(ring_.begin(), ring_.end(), out.data);
    }

    void copy_alive(Array<int64_t, 1> out) const {
        require(out.size() == alive(), "copy_alive: wanted room for all");
        std::copy(alive_.begin(), alive_.end(), out.data);
    }

    // Become what the copies say.
    void load(Array<const int64_t, 1> entries, Array<const int64_t, 1> alive) {
        ring_.clear();
        alive_.clear();
        known_.clear();
        void_ = 0;
        for (Index i = 0; i < alive.size(); i++) {
            at(alive[i]).place = alive_.size();
            alive_.push_back(alive[i]);
        }
        for (Index i = 0; i < entries.size(); i++) {
            at(entries[i]).count++;
            ring_.push_back(entries[i]);
        }
    }

  private:
    struct Known {
        Index count = 0;   // of a row's labelled events in the ring
        Index gone = 0;    // this number of its oldest entries in the ring is void
        size_t place = 0;  // among those alive
    };

    Known& at(int64_t row) {
        require(row >= 0, "Recent: wanted rows from 0 on");
        if (size_t(row) >= known_.size()) known_.resize(std::max(size_t(row) + 1, 2 * known_.size()));
        return known_[size_t(row)];
    }

    void enter(int64_t row) {
        Known& known = at(row);
        ring_.push_back(row);
        if (known.count++) return;
        known.place = alive_.size();
        alive_.push_back(row);
    }

    void leave_oldest() {
        int64_t row = ring_.front();
        ring_.pop_front();
        while (known_[size_t(row)].gone) {
            known_[size_t(row)].gone--;
            void_--;
            row = ring_.front();
            ring_.pop_front();
        }
        if (--known_[size_t(row)].count == 0) leave(row);
    }

    // The last one alive takes this row's place.
    void leave(int64_t row) {
        Known& known = known_[size_t(row)];
        known.count = 0;
        const int64_t last = alive_.back();
        alive_.pop_back();
        if (last == row) return;
        alive_[known.place] = last;
        known_[size_t(last)].place = known.place;
    }

    Index size_, void_ = 0;
    std::deque<int64_t> ring_;
    std::vector<int64_t> alive_;  // each row once; a seeded draw depends on their order
    std::vector<Known> known_;    // by row
};

}  // namespace

void bind_recent(nb::module_& module) {
    nb::class_<Recent>(module, "Recent")
        .def(nb::init<Index>())
        .def("add", &Recent::add)
        .def("drop", &Recent::drop)
        .def("sweep", &Recent::sweep)
        .def("entries", &Recent::entries)
        .def("alive", &Recent::alive)
        .def("copy_entries", &Recent::copy_entries)
        .def("copy_alive", &Recent::copy_alive)
        .def("load", &Recent::load);
}

}  // namespace streammeta
