// DebugVars: /debug/vars, the JSON page of Go's expvar as etcd fills it: command line, memory, descriptors, raft.
// Cold; allocates. Of memstats there is what .NET can say truthfully under Go's names.
using System;
using System.Buffers;
using System.Globalization;
using System.Text.Json;
using Cairn.Core.Server;

namespace Cairn.Net.Http;

/// <summary>Writes the page.</summary>
internal static class DebugVars
{
    public static ReadOnlyMemory<byte> Write(Member member)
    {
        var page = new ArrayBufferWriter<byte>(4096);
        using (var json = new Utf8JsonWriter(page))
        {
            json.WriteStartObject();
            json.WriteStartArray("cmdline");
            foreach (string argument in Environment.GetCommandLineArgs())
            {
                json.WriteStringValue(argument);
            }

            json.WriteEndArray();
            json.WriteNumber("file_descriptor_limit", (ulong)ProcessFigures.FileLimit());
            json.WriteStartObject("memstats");
            json.WriteNumber("Alloc", GC.GetTotalMemory(forceFullCollection: false));
            json.WriteNumber("TotalAlloc", GC.GetTotalAllocatedBytes());
            json.WriteNumber("Sys", Environment.WorkingSet);
            json.WriteNumber("NumGC", GC.CollectionCount(0));
            json.WriteNumber("PauseTotalNs", GC.GetTotalPauseDuration().Ticks * 100);
            json.WriteEndObject();
            WriteRaft(json, member);
            json.WriteEndObject();
        }

        return page.WrittenMemory;
    }

    private static void WriteRaft(Utf8JsonWriter json, Member member)
    {
        MemberStatus status = member.Status;
        bool leads = status.Leader == member.Id;
        json.WriteStartObject("raft.status");
        json.WriteString("id", ServerMetrics.Hex(member.Id));
        json.WriteNumber("term", status.Term);
        json.WriteNumber("commit", status.CommittedIndex);
        json.WriteString("lead", ServerMetrics.Hex(status.Leader));
        json.WriteString("raftState", leads ? "StateLeader" : status.Leader == 0 ? "StateCandidate" : "StateFollower");
        json.WriteNumber("applied", status.AppliedIndex);
        json.WriteString("leadtransferee", 0.ToString(CultureInfo.InvariantCulture));
        json.WriteEndObject();
    }
}
