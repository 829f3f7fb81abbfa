// ICaller: who asked for a lock or an election, as far as the logic needs to know: slots to act with, how long it waits,
// and a place to sleep. The front end makes one of each call; tests make their own.
//
// Thread     The logic of one call uses it, one step at a time; Wake comes from any thread.
using System.Threading.Tasks;
using Cairn.Core.Server;

namespace Cairn.Core.Coordination;

/// <summary>The caller of a lock or election call.</summary>
public interface ICaller
{
    /// <summary>It waits no longer: gone, too late, or the server stops.</summary>
    bool IsGone { get; }

    /// <summary>Monotonic ns after which it no longer waits; <see cref="long.MaxValue"/> when it always does.</summary>
    long DeadlineNs { get; }

    /// <summary>A slot that acts with the caller's permissions; given back to the member.</summary>
    RequestSlot Rent();

    /// <summary>Sleeps until <see cref="Wake"/> (one since the last wait ends it at once) or until the caller is gone.</summary>
    ValueTask WaitAsync();

    /// <summary>Ends a wait. Any thread; a late one does no harm.</summary>
    void Wake();
}
