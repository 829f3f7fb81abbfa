// Micro benchmarks of the pieces (BenchmarkDotNet): what an operation costs inside the process, without sockets and disks, and
// that it allocates nothing. `dotnet run --project bench/Micro -c Release -- --filter '*'`; the last table is in docs/performance.md.
//
// In process: the generated project of BenchmarkDotNet's usual toolchain would not see the internals that are measured.
// No time is asserted anywhere; that nothing is allocated is also asserted by tests.
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Exporters;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.NoEmit;

namespace Cairn.Bench.Micro;

internal static class Program
{
    private static void Main(string[] arguments)
    {
        ManualConfig config = ManualConfig.CreateEmpty()
            .AddJob(Job.Default.WithToolchain(InProcessNoEmitToolchain.Instance).WithWarmupCount(3).WithIterationCount(7))
            .AddDiagnoser(MemoryDiagnoser.Default)
            .AddColumnProvider(DefaultColumnProviders.Instance)
            .AddLogger(ConsoleLogger.Default)
            .AddExporter(MarkdownExporter.GitHub)
            .WithArtifactsPath("out/micro");
        _ = BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(arguments, config);
    }
}
